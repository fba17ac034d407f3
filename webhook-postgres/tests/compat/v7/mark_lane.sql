-- Tells the live deliveries of a lane how it is scheduled now; a probe in flight stays counted.
-- $1 lane, $2 capped, $3 ordered.
UPDATE "webhook".deliveries
SET capped = $2::boolean OR capped AND status = 'in_progress', ordered = $3::boolean
WHERE id = ANY (ARRAY(
    SELECT id FROM "webhook".deliveries
    WHERE endpoint_id = $1::uuid AND (capped, ordered)
        IS DISTINCT FROM ($2::boolean OR capped AND status = 'in_progress', $3::boolean)
    -- As all who lock several do.
    ORDER BY id
    FOR UPDATE
))
