-- One job at a time, until it is released: its endpoint's breaker has opened.
ALTER TABLE webhook.lane_state ADD COLUMN is_probed boolean NOT NULL DEFAULT false;

-- How endpoints in trouble do. Those that do well have no row, and cost no write.
CREATE TABLE webhook.endpoint_health (
    endpoint_id uuid PRIMARY KEY,
    -- Since when nothing but failures has come from it, and when its host was told.
    failing_since timestamptz,
    notified_at timestamptz,
    -- The breaker; NULL while it is closed.
    trips integer,
    opened_at timestamptz,
    open_until timestamptz
) WITH (fillfactor = 50);
