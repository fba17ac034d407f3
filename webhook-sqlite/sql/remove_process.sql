DELETE FROM webhook_processes WHERE id = ?1
