UPDATE webhook_lanes SET held_until = 0, is_probed = 0, state = 'ready', wake_at = NULL WHERE endpoint_id = ?1
