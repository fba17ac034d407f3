WITH new (part, version, generation, up_to, is_complete) AS (VALUES (?, ?, ?, ?, ?))
INSERT INTO webhook_fills AS known (part, version, generation, up_to, is_complete)
SELECT part, version, generation, up_to, is_complete
FROM new
WHERE part IS NOT NULL
ON CONFLICT (part) DO UPDATE
SET
    version = excluded.version, generation = excluded.generation, up_to = excluded.up_to,
    is_complete = excluded.is_complete
WHERE known.version + 1 = excluded.version
RETURNING part
