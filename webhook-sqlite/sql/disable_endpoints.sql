WITH disabled (id, reason) AS (VALUES (?, ?))
UPDATE webhook_endpoints
SET state = 'disabled', state_reason = disabled.reason, version = version + 1, updated_at = ?
FROM disabled
WHERE webhook_endpoints.id = disabled.id AND state <> 'disabled'
    AND (
        disabled.reason <> 'failing'
        OR EXISTS (
            SELECT 1 FROM webhook_endpoint_health AS health
            WHERE health.endpoint_id = disabled.id AND health.failing_since IS NOT NULL
        )
    )
RETURNING webhook_endpoints.id
