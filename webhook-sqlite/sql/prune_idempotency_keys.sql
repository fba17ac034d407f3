DELETE FROM webhook_idempotency_keys WHERE since <= ?1
