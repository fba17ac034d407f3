-- One delivery. $1 its id, $2 tenant or null for all.
SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts,
    next_retry_at, last_error, created_at, updated_at
FROM "webhook".all_deliveries
WHERE id = $1::uuid AND ($2::text IS NULL OR tenant = $2)
