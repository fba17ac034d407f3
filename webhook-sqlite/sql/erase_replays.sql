DELETE FROM webhook_replays WHERE tenant = ?1
