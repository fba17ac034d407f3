-- Ends live deliveries by decree, whoever has claimed them, and answers which they were.
-- $1 now or null, $2 deliveries, $3 tenant or null for all, $4 status, $5 end reason.
WITH ended AS (
    DELETE FROM "webhook".deliveries
    WHERE id = ANY ($2::uuid[]) AND ($3::text IS NULL OR tenant = $3)
    RETURNING *
),
kept AS (
    INSERT INTO "webhook".deliveries_history (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts,
        last_error, created_at, updated_at
    )
    SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, $4::text, $5::text, attempts,
        last_error, created_at, coalesce($1::timestamptz, now())
    FROM ended
)
SELECT id FROM ended
