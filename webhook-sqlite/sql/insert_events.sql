INSERT INTO webhook_events
    (id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
