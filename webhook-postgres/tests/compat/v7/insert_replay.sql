-- Starts a bulk replay. $1 now or null, $2 its id, $3 tenant or null for all, $4 selection, $5 state, $6 pace, $7 total,
-- $8 whether that is exact, $9 done, $10 skipped, $11 who started it.
INSERT INTO "webhook".replays (
    id, tenant, selection, state, pace, total, total_is_exact, done, skipped, created_by, created_at, updated_at, next_at
)
SELECT $2::uuid, $3::text, $4::text, $5::text, $6::bigint, $7::bigint, $8::boolean, $9::bigint, $10::bigint, $11::text,
    clock.now, clock.now, clock.now
FROM (SELECT coalesce($1::timestamptz, now()) AS now) AS clock
RETURNING id, tenant, selection, state, pace, total, total_is_exact, done, skipped, created_by, created_at, updated_at
