-- Takes the tenant whose step of being erased has been due the longest, unless another process has it. $1 now or null.
SELECT tenant, up_to, requested_at
FROM "webhook".erasures
WHERE next_at <= coalesce($1::timestamptz, now())
ORDER BY next_at LIMIT 1
FOR UPDATE SKIP LOCKED
