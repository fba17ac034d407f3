-- A key that is there already has expired, or is being erased.
WITH new (tenant, key, event_id, fingerprint, expires_at) AS (VALUES (?, ?, ?, ?, ?))
INSERT INTO webhook_idempotency_keys (tenant, key, event_id, fingerprint, expires_at)
SELECT tenant, key, event_id, fingerprint, expires_at
FROM new
WHERE key IS NOT NULL
ON CONFLICT (tenant, key) DO UPDATE
SET event_id = excluded.event_id, fingerprint = excluded.fingerprint, expires_at = excluded.expires_at
