-- A page of bulk replays, newest first. $1 tenant or null for all, $2 the id before which it begins or null, $3 the
-- most, $4 the only one or null.
SELECT id, tenant, selection, state, pace, total, total_is_exact, done, skipped, created_by, created_at, updated_at
FROM "webhook".replays
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2) AND ($4::uuid IS NULL OR id = $4)
ORDER BY id DESC LIMIT $3::bigint
