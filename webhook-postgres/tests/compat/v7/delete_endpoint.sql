-- Removes an endpoint, its lane, its health, and its live deliveries to the history. Answers whether it was there.
-- $1 now or null, $2 endpoint, $3 tenant or null for all.
WITH live AS MATERIALIZED (
    -- Before the endpoint, and in this order, as all who lock several do.
    SELECT id FROM "webhook".deliveries
    WHERE endpoint_id = $2::uuid AND ($3::text IS NULL OR tenant = $3)
    ORDER BY id
    FOR UPDATE
),
deleted AS (
    DELETE FROM "webhook".endpoints
    WHERE id = $2::uuid AND ($3::text IS NULL OR tenant = $3) AND (SELECT count(*) FROM live) >= 0
    RETURNING id
),
lane AS (
    DELETE FROM "webhook".lane_state
    WHERE endpoint_id IN (SELECT id FROM deleted)
),
health AS (
    DELETE FROM "webhook".endpoint_health
    WHERE endpoint_id IN (SELECT id FROM deleted)
),
ended AS (
    DELETE FROM "webhook".deliveries
    WHERE endpoint_id IN (SELECT id FROM deleted)
    RETURNING *
),
kept AS (
    INSERT INTO "webhook".deliveries_history (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts,
        last_error, created_at, updated_at
    )
    SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, 'cancelled', 'endpoint_deleted',
        attempts, last_error, created_at, coalesce($1::timestamptz, now())
    FROM ended
)
SELECT EXISTS (SELECT FROM deleted)
