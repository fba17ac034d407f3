-- Of the live deliveries of the next events.
DELETE FROM webhook_attempts
WHERE delivery_id IN (
    SELECT delivery.id
    FROM (
        SELECT id FROM webhook_events WHERE tenant = ?1 AND id <= ?2 ORDER BY id LIMIT +?3
    ) AS event
    CROSS JOIN webhook_deliveries AS delivery ON delivery.event_id = event.id
)
