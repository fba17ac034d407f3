-- Of the live deliveries of the next events.
DELETE FROM webhook_attempts
WHERE delivery_id IN (
    SELECT delivery.id
    FROM (
        SELECT id FROM webhook_events AS event
        WHERE tenant = ?1 AND id <= ?2
            AND NOT EXISTS (
                SELECT 1 FROM webhook_spared AS spared WHERE spared.tenant = ?1 AND spared.event_id = event.id
            )
        ORDER BY id LIMIT +?3
    ) AS event
    CROSS JOIN webhook_deliveries AS delivery ON delivery.event_id = event.id
)
