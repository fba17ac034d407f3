-- Stores an event that is a test of one endpoint, if that is enabled. $1 id, $2 tenant, $3 event_type, $4 body,
-- $5 created_at, $6 endpoint.
INSERT INTO "webhook".events (id, tenant, event_type, body, created_at)
SELECT $1::uuid, endpoint.tenant, $3::text, $4::bytea, $5::timestamptz
FROM "webhook".endpoints AS endpoint
WHERE endpoint.id = $6::uuid AND endpoint.tenant = $2::text AND endpoint.state = 'enabled'
