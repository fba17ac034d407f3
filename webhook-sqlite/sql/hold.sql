UPDATE webhook_lanes SET held_until = max(held_until, ?2) WHERE endpoint_id = ?1
