WITH wanted (id) AS (VALUES (?))
SELECT
    health.endpoint_id, endpoint.tenant, health.failing_since, health.notified_at, health.trips, health.opened_at,
    health.open_until
FROM wanted
CROSS JOIN webhook_endpoint_health AS health ON health.endpoint_id = wanted.id
CROSS JOIN webhook_endpoints AS endpoint ON endpoint.id = wanted.id
