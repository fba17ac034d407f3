-- Stores how far parts of queues were filled, unless somebody else did since. Answers the parts of what was stored.
-- $1 parts, $2 versions, $3 generations, $4 the last deliveries or null, $5 whether they are complete.
INSERT INTO "webhook".fills AS known (part, version, generation, up_to, is_complete)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[], $5::boolean[]) AS new (part)
-- Always in the same order, so that two of these cannot wait for each other.
ORDER BY new.part
ON CONFLICT (part) DO UPDATE SET
    version = excluded.version, generation = excluded.generation, up_to = excluded.up_to,
    is_complete = excluded.is_complete
WHERE known.version + 1 = excluded.version
RETURNING part
