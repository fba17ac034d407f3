-- Of the next ended deliveries.
DELETE FROM webhook_attempts
WHERE delivery_id IN (
    SELECT id FROM webhook_deliveries_history WHERE tenant = ?1 AND id <= ?2 ORDER BY id LIMIT +?3
)
