-- What these keys stand for, unless that is being erased.
WITH wanted (tenant, key) AS (VALUES (?, ?))
SELECT known.tenant, known.key, known.event_id, known.fingerprint, known.expires_at
FROM wanted
CROSS JOIN webhook_idempotency_keys AS known
    ON known.tenant = wanted.tenant AND known.key = wanted.key
WHERE NOT EXISTS (
    SELECT 1 FROM webhook_erasures AS erasure
    WHERE erasure.tenant = known.tenant AND known.event_id <= erasure.up_to
        AND NOT EXISTS (
            SELECT 1 FROM webhook_spared AS spared
            WHERE spared.tenant = known.tenant AND spared.event_id = known.event_id
        )
)
