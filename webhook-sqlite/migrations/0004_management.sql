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

-- What came after its tenant was erased stays, although its id is not above: that is of another clock. Its deliveries'
-- ids begin with the time at which it was made. A trigger, so that it costs the others a look for its tenant and no
-- statement.
CREATE TABLE webhook_spared (
    tenant TEXT NOT NULL,
    event_id BLOB NOT NULL,
    PRIMARY KEY (tenant, event_id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER webhook_spare AFTER INSERT ON webhook_events
WHEN EXISTS (
    SELECT 1 FROM webhook_erasures AS erasure
    WHERE erasure.tenant = NEW.tenant
        AND min(NEW.id, unhex(printf('%012x', NEW.created_at / 1000))) <= erasure.up_to
)
BEGIN
    INSERT INTO webhook_spared (tenant, event_id) VALUES (NEW.tenant, NEW.id) ON CONFLICT DO NOTHING;
END;

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
