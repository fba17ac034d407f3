-- One job at a time, until it is released: its endpoint's breaker has opened.
ALTER TABLE webhook_lanes ADD COLUMN is_probed INTEGER NOT NULL DEFAULT 0;

-- How endpoints in trouble do. Those that do well have no row.
CREATE TABLE webhook_endpoint_health (
    endpoint_id BLOB PRIMARY KEY NOT NULL,
    -- Since when nothing but failures has come from it, and when its host was told.
    failing_since INTEGER,
    notified_at INTEGER,
    -- The breaker; NULL while it is closed.
    trips INTEGER,
    opened_at INTEGER,
    open_until INTEGER
) STRICT, WITHOUT ROWID;
