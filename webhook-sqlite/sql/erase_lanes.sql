DELETE FROM webhook_lanes
WHERE endpoint_id IN (SELECT id FROM webhook_endpoints WHERE tenant = ?1)
