SELECT part, version, generation, up_to, is_complete
FROM webhook_fills
