DELETE FROM webhook_endpoint_health
WHERE endpoint_id IN (SELECT id FROM webhook_endpoints WHERE tenant = ?1)
