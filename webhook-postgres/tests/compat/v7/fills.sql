-- How far parts of queues were filled.
SELECT part, version, generation, up_to, is_complete FROM "webhook".fills
