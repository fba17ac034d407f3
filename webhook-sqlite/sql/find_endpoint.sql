SELECT state = 'enabled' FROM webhook_endpoints WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)
