DELETE FROM webhook_lanes WHERE endpoint_id = ?1
