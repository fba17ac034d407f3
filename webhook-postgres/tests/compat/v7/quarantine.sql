-- Ends live deliveries that cannot be attempted, unless somebody else has claimed them since.
-- $1 now or null, $2 status, $3 end reason, then arrays of one element a claim: $4 delivery, $5 fence.
WITH ended AS (
    DELETE FROM "webhook".deliveries AS delivery
    USING unnest($4::uuid[], $5::bigint[]) AS input (id, fence)
    WHERE delivery.id = input.id AND delivery.fence <= input.fence
    RETURNING delivery.*
)
INSERT INTO "webhook".deliveries_history (
    id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts,
    last_error, created_at, updated_at
)
SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, $2::text, $3::text, attempts,
    last_error, created_at, coalesce($1::timestamptz, now())
FROM ended
