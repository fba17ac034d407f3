-- Times are in µs since 1970. `webhook_` stands for the store's prefix.

CREATE TABLE webhook_endpoints (
    id BLOB PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    url TEXT NOT NULL,
    settings TEXT NOT NULL,
    secrets BLOB NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- What a claim needs of the settings.
    max_in_flight INTEGER NOT NULL,
    rate_limit INTEGER,
    rate_per INTEGER,
    ordered INTEGER NOT NULL
) STRICT;

-- Finds those that an event may go to.
CREATE INDEX webhook_endpoints_by_tenant ON webhook_endpoints (tenant);

-- One row an endpoint. A claim looks only at lanes that are `ready`: each of them may be eligible now.
-- `waiting` ones will not be before `wake_at`; `full` ones not before a lease ends; `empty` ones have no jobs.
CREATE TABLE webhook_lanes (
    endpoint_id BLOB PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'empty' CHECK (state IN ('ready', 'waiting', 'full', 'empty')),
    -- When it was last served, or became ready: the smallest of a tenant is next.
    turn INTEGER NOT NULL DEFAULT 0,
    wake_at INTEGER,
    held_until INTEGER NOT NULL DEFAULT 0,
    -- GCRA's theoretical arrival time.
    arrival INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Goes round the tenants, then round a tenant's lanes.
CREATE INDEX webhook_lanes_ready ON webhook_lanes (tenant, turn) WHERE state = 'ready';
-- Wakes what falls due.
CREATE INDEX webhook_lanes_waiting ON webhook_lanes (wake_at) WHERE state = 'waiting';

CREATE TABLE webhook_events (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    event_type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deliver_at INTEGER,
    idempotency_key TEXT,
    fingerprint BLOB,
    body BLOB NOT NULL
) STRICT;

-- Lists a tenant's events.
CREATE INDEX webhook_events_by_tenant ON webhook_events (tenant, id);

CREATE TABLE webhook_idempotency_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    event_id BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- Finds the keys that have expired.
CREATE INDEX webhook_idempotency_keys_by_age ON webhook_idempotency_keys (expires_at);

-- Unfinished deliveries only: these are the queue.
CREATE TABLE webhook_deliveries (
    -- The order of acceptance.
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    event_id BLOB NOT NULL,
    endpoint_id BLOB NOT NULL,
    replay_no INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'in_progress')),
    attempts INTEGER NOT NULL DEFAULT 0,
    -- How many of the attempts failed through us: they do not count against the schedule.
    excused INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    due INTEGER NOT NULL,
    first_due INTEGER NOT NULL,
    -- The order within a lane: the due time, or 0 in an ordered lane.
    place INTEGER NOT NULL,
    -- Whether its lease counts. One that has passed may be claimed, and its owner may still record.
    leased INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER,
    fence INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- A lane's next job, and how many are leased.
CREATE INDEX webhook_deliveries_by_lane ON webhook_deliveries (endpoint_id, leased, place);
-- Finds leases that have passed.
CREATE INDEX webhook_deliveries_by_lease ON webhook_deliveries (lease_until) WHERE leased = 1;
-- Finds an event's deliveries.
CREATE INDEX webhook_deliveries_by_event ON webhook_deliveries (event_id);

-- Finished deliveries.
CREATE TABLE webhook_deliveries_history (
    id BLOB PRIMARY KEY NOT NULL,
    event_id BLOB NOT NULL,
    endpoint_id BLOB NOT NULL,
    replay_no INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT NOT NULL,
    end_reason TEXT,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds an event's deliveries.
CREATE INDEX webhook_deliveries_history_by_event ON webhook_deliveries_history (event_id);
-- Lists an endpoint's.
CREATE INDEX webhook_deliveries_history_by_endpoint ON webhook_deliveries_history (endpoint_id, id);
-- Lists a tenant's.
CREATE INDEX webhook_deliveries_history_by_tenant ON webhook_deliveries_history (tenant, id);
-- Lists the dead letters.
CREATE INDEX webhook_deliveries_history_failed ON webhook_deliveries_history (id) WHERE status = 'failed';

CREATE TABLE webhook_attempts (
    delivery_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    first_byte INTEGER,
    status INTEGER,
    error_kind TEXT,
    truncated INTEGER NOT NULL,
    request_headers BLOB NOT NULL,
    response_headers BLOB,
    response_body BLOB,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

-- What processes have counted, a row for each minute, process and endpoint; older ones are merged to longer
-- steps. `counts` holds sums and histograms, and is opaque.
CREATE TABLE webhook_stats (
    at INTEGER NOT NULL,
    -- How long the step is that begins there.
    step INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    endpoint_id BLOB,
    counts BLOB NOT NULL
) STRICT;

-- Finds a range, and what is to be merged.
CREATE INDEX webhook_stats_by_step ON webhook_stats (step, at);
-- Finds a tenant's range.
CREATE INDEX webhook_stats_by_tenant ON webhook_stats (tenant, at);

-- How far each part of a queue beside the store was filled from it.
CREATE TABLE webhook_fills (
    part TEXT PRIMARY KEY NOT NULL,
    -- Counts the writes.
    version INTEGER NOT NULL,
    -- Of which generation the part is or was that is filled.
    generation INTEGER NOT NULL,
    -- The last delivery that was pushed, while it is not complete.
    up_to BLOB,
    is_complete INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Bulk replays.
CREATE TABLE webhook_replays (
    id BLOB PRIMARY KEY NOT NULL,
    -- NULL goes over all tenants.
    tenant TEXT,
    -- JSON.
    selection TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'completed', 'cancelled')),
    pace INTEGER NOT NULL,
    total INTEGER NOT NULL,
    total_is_exact INTEGER NOT NULL,
    done INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    created_by TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- The last row that it has looked at.
    after BLOB,
    next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds the one whose step is due.
CREATE INDEX webhook_replays_running ON webhook_replays (next_at, id) WHERE state = 'running';

-- Unfinished and finished deliveries in one form. `cause` says whose fault the last failure is. The casts let SQLite
-- merge the two in the order of an index.
CREATE VIEW webhook_all_deliveries AS
SELECT
    id, event_id, endpoint_id, replay_no, tenant, event_type, status, attempts, due AS next_retry_at,
    last_error, CAST(NULL AS TEXT) AS end_reason, created_at, updated_at,
    CASE WHEN last_error = 'internal' THEN 'system' WHEN last_error IS NOT NULL THEN 'endpoint' END AS cause
FROM webhook_deliveries
UNION ALL
SELECT
    id, event_id, endpoint_id, replay_no, tenant, event_type, status, attempts, CAST(NULL AS INTEGER),
    last_error, end_reason, created_at, updated_at,
    CASE
        WHEN end_reason = 'corrupt' OR last_error = 'internal' THEN 'system'
        WHEN last_error IS NOT NULL OR end_reason IN ('exhausted', 'permanent', 'expired') THEN 'endpoint'
    END
FROM webhook_deliveries_history;
