-- The live ones of the next events.
DELETE FROM webhook_deliveries
WHERE event_id IN (
    SELECT id FROM webhook_events WHERE tenant = ?1 AND id <= ?2 ORDER BY id LIMIT +?3
)
