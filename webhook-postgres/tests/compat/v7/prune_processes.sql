-- Forgets those that have gone without a word. $1 now or null, $2 how long they are believed, in µs.
DELETE FROM "webhook".processes
WHERE seen_at <= coalesce($1::timestamptz, now()) - $2::bigint * interval '1 microsecond'
