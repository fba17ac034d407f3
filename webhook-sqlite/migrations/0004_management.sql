-- Who did what through the management API.
CREATE TABLE webhook_audit (
    id BLOB PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    -- NULL concerns all tenants.
    tenant TEXT,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Lists what was done to a tenant.
CREATE INDEX webhook_audit_by_tenant ON webhook_audit (tenant, id);
-- Lists what was done to an endpoint.
CREATE INDEX webhook_audit_by_target ON webhook_audit (target, id);
-- Finds what is too old.
CREATE INDEX webhook_audit_by_age ON webhook_audit (at);

-- Tenants that are being erased.
CREATE TABLE webhook_erasures (
    tenant TEXT PRIMARY KEY NOT NULL,
    -- What has an id up to this goes.
    up_to BLOB NOT NULL,
    requested_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Processes that deliver, as each says of itself.
CREATE TABLE webhook_processes (
    id BLOB PRIMARY KEY NOT NULL,
    role TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    slots INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
