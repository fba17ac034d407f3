-- Stores a new endpoint. $1 id, $2 tenant, $3 url, $4 settings, $5 secrets, $6 exact_types,
-- $7 type_prefixes, $8 state, $9 state_reason, $10 version, $11 created_at, $12 updated_at.
INSERT INTO "webhook".endpoints (
    id, tenant, url, settings, secrets, exact_types, type_prefixes, state, state_reason, version,
    created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (id) DO NOTHING
