DELETE FROM webhook_idempotency_keys
WHERE (tenant, key) IN (
    SELECT tenant, key FROM webhook_idempotency_keys WHERE tenant = ?1 AND event_id <= ?2 LIMIT +?3
)
