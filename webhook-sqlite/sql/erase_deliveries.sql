-- The live ones of the next events.
DELETE FROM webhook_deliveries
WHERE event_id IN (
    SELECT id FROM webhook_events AS event
    WHERE tenant = ?1 AND id <= ?2
        AND NOT EXISTS (
            SELECT 1 FROM webhook_spared AS spared WHERE spared.tenant = ?1 AND spared.event_id = event.id
        )
    ORDER BY id LIMIT +?3
)
