SELECT sequence, endpoint_id, attempts, last_error FROM webhook_deliveries WHERE id = ?1
