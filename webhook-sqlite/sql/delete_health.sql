DELETE FROM webhook_endpoint_health WHERE endpoint_id = ?1
