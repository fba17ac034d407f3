DELETE FROM webhook_events
WHERE id IN (
    SELECT id FROM webhook_events WHERE tenant = ?1 AND id <= ?2 ORDER BY id LIMIT +?3
)
