UPDATE webhook_erasures SET next_at = ?2 WHERE tenant = ?1
