DELETE FROM webhook_endpoints WHERE tenant = ?1
