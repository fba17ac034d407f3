-- The processes that were seen lately, the newest first. $1 now or null, $2 how long ago at most, in µs.
SELECT id, role, version, started_at, seen_at, in_flight, slots
FROM "webhook".processes
WHERE seen_at > coalesce($1::timestamptz, now()) - $2::bigint * interval '1 microsecond'
ORDER BY id DESC LIMIT 1000
