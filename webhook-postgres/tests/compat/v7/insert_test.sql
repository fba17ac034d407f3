-- Stores an event that is a test of one endpoint, if that is enabled, and answers its id. $1 id, $2 tenant, $3
-- event_type, $4 body, $5 created_at, $6 endpoint.
WITH stored AS (
    INSERT INTO "webhook".events (id, tenant, event_type, body, created_at)
    SELECT $1::uuid, endpoint.tenant, $3::text, $4::bytea, $5::timestamptz
    FROM "webhook".endpoints AS endpoint
    WHERE endpoint.id = $6::uuid AND endpoint.tenant = $2::text AND endpoint.state = 'enabled'
    RETURNING id, tenant, created_at
),
-- As `insert_events`.
spared AS (
    INSERT INTO "webhook".spared (tenant, event_id)
    SELECT stored.tenant, stored.id
    FROM stored
    JOIN "webhook".erasures AS erasure ON erasure.tenant = stored.tenant
        AND least(stored.id, "webhook".first_id(stored.created_at)) <= erasure.up_to
    ON CONFLICT DO NOTHING
)
SELECT id FROM stored
