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

-- Tenants that are being erased.
CREATE TABLE webhook.erasures (
    tenant text COLLATE "C" PRIMARY KEY,
    -- What has an id up to this goes.
    up_to uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    next_at timestamptz NOT NULL
);

-- Processes that deliver, as each says of itself.
CREATE TABLE webhook.processes (
    id uuid PRIMARY KEY,
    role text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    in_flight bigint NOT NULL,
    slots bigint NOT NULL
) WITH (fillfactor = 50);

-- Counts what waits for an endpoint until later: retries, and events for later. What succeeds at once is never in it.
CREATE INDEX deliveries_parked ON webhook.deliveries (endpoint_id, due_at) WHERE NOT ready AND status = 'pending';
