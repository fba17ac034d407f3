SELECT id, tenant, url, settings, secrets, state, state_reason, version, created_at, updated_at
FROM webhook_endpoints
WHERE TRUE
