-- All endpoints of a tenant. $1 tenant.
SELECT id, tenant, url, settings, secrets, state, state_reason, version, created_at, updated_at
FROM "webhook".endpoints
WHERE tenant = $1::text
