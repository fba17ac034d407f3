-- What these keys stand for.
WITH wanted (tenant, key) AS (VALUES (?, ?))
SELECT known.tenant, known.key, known.event_id, known.fingerprint, known.expires_at
FROM wanted
CROSS JOIN webhook_idempotency_keys AS known
    ON known.tenant = wanted.tenant AND known.key = wanted.key
