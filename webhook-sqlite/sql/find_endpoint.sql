SELECT EXISTS (SELECT 1 FROM webhook_endpoints WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2))
