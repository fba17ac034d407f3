-- Files a deleted endpoint's live deliveries in the history. `remove_lane` takes them out of the queue.
INSERT INTO webhook_deliveries_history
    (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts, last_error, created_at,
        updated_at
    )
SELECT
    id, event_id, endpoint_id, replay_no, tenant, event_type, 'cancelled', 'endpoint_deleted', attempts, last_error,
    created_at, ?2
FROM webhook_deliveries
WHERE endpoint_id = ?1
