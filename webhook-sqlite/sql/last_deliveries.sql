-- Of each of these events to each of these endpoints, the last delivery. (A bare column is of the row with the
-- maximum.)
WITH wanted (event_id, endpoint_id) AS (VALUES (?, ?))
SELECT event_id, endpoint_id, max(replay_no) AS replay_no, status
FROM (
    SELECT delivery.event_id, delivery.endpoint_id, delivery.replay_no, delivery.status
    FROM wanted
    CROSS JOIN webhook_deliveries AS delivery
        ON delivery.event_id = wanted.event_id AND delivery.endpoint_id = wanted.endpoint_id
    UNION ALL
    SELECT delivery.event_id, delivery.endpoint_id, delivery.replay_no, delivery.status
    FROM wanted
    CROSS JOIN webhook_deliveries_history AS delivery
        ON delivery.event_id = wanted.event_id AND delivery.endpoint_id = wanted.endpoint_id
)
GROUP BY event_id, endpoint_id
