-- The next events after ?1 in the order of acceptance, and whether they may go: accepted before ?2, no delivery
-- of theirs live, and none ended since. ?4 now: what is later than that is of a clock that was ahead.
SELECT
    event.sequence, event.id, event.created_at < ?2 AS old, event.created_at > ?4 AS ahead,
    NOT EXISTS (SELECT 1 FROM webhook_deliveries AS delivery WHERE delivery.event_id = event.id)
    AND NOT EXISTS (
        SELECT 1
        FROM webhook_deliveries_history AS delivery
        WHERE delivery.event_id = event.id AND delivery.updated_at >= ?2
    ) AS done
FROM webhook_events AS event
WHERE event.sequence > ?1
ORDER BY event.sequence
LIMIT +?3
