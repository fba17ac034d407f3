SELECT tenant, up_to, requested_at, next_at
FROM webhook_erasures
ORDER BY next_at, tenant
LIMIT 1
