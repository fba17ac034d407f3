WITH delivery (
    id, event_id, endpoint_id, replay_no, tenant, event_type, status, due, first_due, place, leased, lease_until,
    fence, created_at, updated_at
) AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
INSERT INTO webhook_deliveries
    (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, due, first_due, place, leased, lease_until,
        fence, created_at, updated_at
    )
SELECT
    id, event_id, endpoint_id, replay_no, tenant, event_type, status, due, first_due, place, leased, lease_until,
    fence, created_at, updated_at
FROM delivery
WHERE id IS NOT NULL
