-- Files finished deliveries in the history. `remove` takes them out of the queue.
WITH ended (sequence, status, end_reason, attempts, last_error) AS (VALUES (?, ?, ?, ?, ?))
INSERT INTO webhook_deliveries_history
    (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts, last_error, created_at,
        updated_at
    )
SELECT
    delivery.id, delivery.event_id, delivery.endpoint_id, delivery.replay_no, delivery.tenant, delivery.event_type,
    ended.status, ended.end_reason, ended.attempts, ended.last_error, delivery.created_at, ?
FROM ended
CROSS JOIN webhook_deliveries AS delivery ON delivery.sequence = ended.sequence
