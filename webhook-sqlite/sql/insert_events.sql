WITH event (id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body)
AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?))
INSERT INTO webhook_events
    (id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body)
SELECT id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body
FROM event
WHERE id IS NOT NULL
