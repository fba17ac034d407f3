DELETE FROM webhook_idempotency_keys
WHERE (tenant, key) IN (
    SELECT tenant, key FROM webhook_idempotency_keys AS known
    WHERE tenant = ?1 AND event_id <= ?2
        AND NOT EXISTS (
            SELECT 1 FROM webhook_spared AS spared WHERE spared.tenant = ?1 AND spared.event_id = known.event_id
        )
    LIMIT +?3
)
