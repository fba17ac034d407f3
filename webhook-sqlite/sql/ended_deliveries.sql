SELECT
    id, event_id, endpoint_id, replay_no, tenant, event_type, status, attempts, NULL AS next_retry_at, last_error,
    end_reason, created_at, updated_at
FROM webhook_deliveries_history
WHERE TRUE
