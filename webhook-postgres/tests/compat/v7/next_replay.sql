-- In how many µs the next step of a running bulk replay is due; no row if none runs. $1 now or null.
SELECT greatest(extract(epoch FROM next_at - coalesce($1::timestamptz, now())) * 1000000, 0)::bigint
FROM "webhook".replays
WHERE state = 'running'
ORDER BY next_at, id LIMIT 1
