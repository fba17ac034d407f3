-- Ends a running bulk replay: who is at a step of it makes nothing any more. $1 now or null, $2 its id, $3 tenant or
-- null for all.
UPDATE "webhook".replays
SET state = 'cancelled', updated_at = coalesce($1::timestamptz, now())
WHERE id = $2::uuid AND ($3::text IS NULL OR tenant = $3) AND state = 'running'
RETURNING id, tenant, selection, state, pace, total, total_is_exact, done, skipped, created_by, created_at, updated_at
