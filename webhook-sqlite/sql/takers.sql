-- The endpoints of these tenants that may accept an event.
WITH wanted (tenant) AS (VALUES (?))
SELECT endpoint.tenant, endpoint.id, endpoint.version, lane.held_until,
    lane.is_probed OR EXISTS (
        SELECT * FROM webhook_endpoint_health AS health WHERE health.endpoint_id = endpoint.id
    ) AS is_in_trouble
FROM wanted
CROSS JOIN webhook_endpoints AS endpoint ON endpoint.tenant = wanted.tenant
CROSS JOIN webhook_lanes AS lane ON lane.endpoint_id = endpoint.id
WHERE endpoint.state <> 'disabled'
