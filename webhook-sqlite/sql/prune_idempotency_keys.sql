DELETE FROM webhook_idempotency_keys WHERE expires_at <= ?1
