-- The endpoints of these tenants that may accept an event.
WITH wanted (tenant) AS (VALUES (?))
SELECT endpoint.tenant, endpoint.id, endpoint.version
FROM wanted
CROSS JOIN webhook_endpoints AS endpoint ON endpoint.tenant = wanted.tenant
WHERE endpoint.state <> 'disabled'
