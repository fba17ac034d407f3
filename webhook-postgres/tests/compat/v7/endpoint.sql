-- Endpoints by id. $1 their ids, $2 tenant or null for all.
SELECT id, tenant, url, settings, secrets, state, state_reason, version, created_at, updated_at
FROM "webhook".endpoints
WHERE id = ANY ($1::uuid[]) AND ($2::text IS NULL OR tenant = $2)
