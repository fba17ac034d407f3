-- Removes a tenant's endpoints, lanes, health and bulk replays, and stores that the rest is to be erased.
-- $1 now or null, $2 tenant.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
deleted AS MATERIALIZED (
    DELETE FROM "webhook".endpoints WHERE tenant = $2 RETURNING id
),
health AS (
    DELETE FROM "webhook".endpoint_health WHERE endpoint_id IN (SELECT id FROM deleted)
    RETURNING endpoint_id
),
-- After its health, as everybody locks the two.
lanes AS (
    DELETE FROM "webhook".lane_state
    WHERE endpoint_id IN (SELECT id FROM deleted) AND (SELECT count(*) FROM health) >= 0
),
replays AS (
    DELETE FROM "webhook".replays WHERE tenant = $2
),
-- What the last erasure left.
spared AS (
    DELETE FROM "webhook".spared WHERE tenant = $2
)
INSERT INTO "webhook".erasures AS known (tenant, up_to, requested_at, next_at)
SELECT $2,
    greatest(
        "webhook".first_id(clock.now + interval '1 ms'),
        -- With its deliveries, whose ids begin with when it was made.
        (
            SELECT greatest(id, "webhook".first_id(created_at + interval '1 ms')) FROM "webhook".events
            WHERE tenant = $2 ORDER BY id DESC LIMIT 1
        )
    ),
    clock.now, clock.now
FROM clock
ON CONFLICT (tenant) DO UPDATE
SET up_to = excluded.up_to, requested_at = excluded.requested_at, next_at = excluded.next_at
