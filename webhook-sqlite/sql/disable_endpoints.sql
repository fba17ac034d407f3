WITH disabled (id, reason) AS (VALUES (?, ?))
UPDATE webhook_endpoints
SET state = 'disabled', state_reason = disabled.reason, version = version + 1, updated_at = ?
FROM disabled
WHERE webhook_endpoints.id = disabled.id AND state <> 'disabled'
RETURNING webhook_endpoints.id
