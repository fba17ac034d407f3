-- Replaces an endpoint by its next version. Parameters as in `insert_endpoint`, but for created_at.
UPDATE "webhook".endpoints
SET url = $3, settings = $4, secrets = $5, exact_types = $6, type_prefixes = $7, state = $8,
    state_reason = $9, version = $10, updated_at = $11
WHERE id = $1 AND tenant = $2 AND version = $10 - 1
