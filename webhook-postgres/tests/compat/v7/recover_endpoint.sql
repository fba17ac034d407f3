-- Forgets how an endpoint did, and releases its lane. Answers whether it is there.
-- $1 endpoint, $2 tenant or null for all.
WITH found AS MATERIALIZED (
    SELECT id FROM "webhook".endpoints WHERE id = $1::uuid AND ($2::text IS NULL OR tenant = $2)
),
forgotten AS (
    DELETE FROM "webhook".endpoint_health WHERE endpoint_id IN (SELECT id FROM found)
    RETURNING endpoint_id
),
-- After its health, as everybody locks the two.
released AS (
    UPDATE "webhook".lane_state SET held_until = '-infinity', is_probed = false, version = version + 1
    WHERE endpoint_id IN (SELECT id FROM found)
        AND (SELECT count(*) FROM forgotten) >= 0
)
SELECT EXISTS (SELECT FROM found)
