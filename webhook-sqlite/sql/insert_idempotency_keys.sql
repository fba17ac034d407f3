-- A key that is there already has passed its window.
WITH new (tenant, key, event_id, fingerprint, since) AS (VALUES (?, ?, ?, ?, ?))
INSERT INTO webhook_idempotency_keys (tenant, key, event_id, fingerprint, since)
SELECT tenant, key, event_id, fingerprint, since
FROM new
WHERE key IS NOT NULL
ON CONFLICT (tenant, key) DO UPDATE
SET event_id = excluded.event_id, fingerprint = excluded.fingerprint, since = excluded.since
