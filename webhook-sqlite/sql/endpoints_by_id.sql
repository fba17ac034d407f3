WITH wanted (id) AS (VALUES (?))
SELECT
    endpoint.id, endpoint.tenant, endpoint.url, endpoint.settings, endpoint.secrets, endpoint.state,
    endpoint.state_reason, endpoint.version, endpoint.created_at, endpoint.updated_at
FROM wanted
CROSS JOIN webhook_endpoints AS endpoint ON endpoint.id = wanted.id
