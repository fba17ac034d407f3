-- The deliveries $FIRST to $LAST of $STORED that have ended, each of a small event of its own, spread evenly over 29 days
-- and all endpoints. A delivery has its event's id.
WITH seeded AS (
    INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type, status, attempts,
        created_at, updated_at)
    SELECT webhook.first_id(job.at), webhook.first_id(job.at), endpoint.id, 0, endpoint.tenant, 'load.test',
        'succeeded', 1, job.at, job.at
    FROM (
        SELECT n, now() - ($STORED + 1 - n) * (interval '29 days' / $STORED) AS at
        FROM generate_series($FIRST, $LAST) AS n
    ) AS job
    JOIN (
        SELECT id, tenant, row_number() OVER (ORDER BY id) - 1 AS number, count(*) OVER () AS endpoints
        FROM webhook.endpoints
    ) AS endpoint ON endpoint.number = job.n % endpoint.endpoints
    ORDER BY job.n
    RETURNING id, tenant, created_at
), seeded_events AS (
    INSERT INTO webhook.events (id, tenant, event_type, body, created_at)
    SELECT id, tenant, 'load.test', '{"type":"load.test","timestamp":"2026-01-01T00:00:00Z","data":{"number":1}}',
        created_at
    FROM seeded
)
INSERT INTO webhook.attempts (delivery_id, number, started_at, duration, first_byte, request_headers, status, truncated)
SELECT id, 1, created_at, 1500, 1000, '', 200, false
FROM seeded;
