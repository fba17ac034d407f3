-- A page of endpoints, newest first. $1 tenant or null for all, $2 the id before which it begins or null,
-- $3 the most, $4 the state or null for any.
SELECT id, tenant, url, settings, secrets, state, state_reason, version, created_at, updated_at
FROM "webhook".endpoints
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($4::text IS NULL OR state = $4)
ORDER BY id DESC LIMIT $3::bigint
