-- A key that is there already has passed its window.
INSERT INTO webhook_idempotency_keys (tenant, key, event_id, fingerprint, since)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, key) DO UPDATE
SET event_id = excluded.event_id, fingerprint = excluded.fingerprint, since = excluded.since
