-- Files finished deliveries in the history. `remove` takes them out of the queue.
WITH ended (id, attempts, last_error, status, end_reason) AS (VALUES (?, ?, ?, ?, ?))
INSERT INTO webhook_deliveries_history
    (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts, last_error, created_at,
        updated_at
    )
SELECT
    delivery.id, delivery.event_id, delivery.endpoint_id, delivery.replay_no, delivery.tenant, delivery.event_type,
    ended.status, ended.end_reason, delivery.attempts + ended.attempts,
    CASE ended.attempts WHEN 0 THEN delivery.last_error ELSE ended.last_error END,
    delivery.created_at, ?
FROM ended
CROSS JOIN webhook_deliveries AS delivery ON delivery.id = ended.id
