DELETE FROM webhook_replays WHERE state IN ('completed', 'cancelled') AND updated_at < ?1
