-- Who did what through the management API.
CREATE TABLE webhook.audit (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    -- NULL concerns all tenants.
    tenant text COLLATE "C",
    action text NOT NULL,
    target text COLLATE "C" NOT NULL,
    detail text NOT NULL
);
-- Lists what was done to a tenant.
CREATE INDEX audit_tenant ON webhook.audit (tenant, id);
-- Lists what was done to an endpoint.
CREATE INDEX audit_target ON webhook.audit (target, id);
-- Finds what is too old.
CREATE INDEX audit_age ON webhook.audit (at);
