-- In how many µs the next step of erasing a tenant is due; no row if none is being erased. $1 now or null.
SELECT greatest(extract(epoch FROM next_at - coalesce($1::timestamptz, now())) * 1000000, 0)::bigint
FROM "webhook".erasures
ORDER BY next_at LIMIT 1
