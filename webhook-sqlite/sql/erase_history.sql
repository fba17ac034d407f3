DELETE FROM webhook_deliveries_history
WHERE id IN (
    SELECT id FROM webhook_deliveries_history WHERE tenant = ?1 AND id <= ?2 ORDER BY id LIMIT +?3
)
