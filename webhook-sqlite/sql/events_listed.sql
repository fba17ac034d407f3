SELECT id, tenant, event_type, X'' AS body, created_at, deliver_at, idempotency_key, fingerprint, traceparent
FROM webhook_events
WHERE TRUE
