WITH pruned (event_id) AS (VALUES (?))
DELETE FROM webhook_attempts
WHERE delivery_id IN (
    SELECT delivery.id
    FROM pruned
    CROSS JOIN webhook_deliveries_history AS delivery ON delivery.event_id = pruned.event_id
)
