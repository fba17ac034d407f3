WITH event (id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body, traceparent)
AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?))
INSERT INTO webhook_events
    (id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body, traceparent)
SELECT id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body, traceparent
FROM event
WHERE id IS NOT NULL
