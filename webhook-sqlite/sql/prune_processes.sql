DELETE FROM webhook_processes WHERE seen_at <= ?1
