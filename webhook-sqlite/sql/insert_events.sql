-- Returns those that are new: only they fan out. What was there may have ended, and must not come back.
INSERT INTO webhook_events
    (id, tenant, event_type, created_at, deliver_at, idempotency_key, fingerprint, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
RETURNING id
