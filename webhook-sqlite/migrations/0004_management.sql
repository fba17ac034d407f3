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
