-- $STORED deliveries that have ended, each of a small event of its own, spread evenly over 29 days and all endpoints;
-- and the statistics of as long, with what was counted so far in each step.
SELECT webhook.make_partitions(now() - interval '29 days', 29);

INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type, status, attempts,
    created_at, updated_at)
SELECT webhook.first_id(job.at), webhook.first_id(job.at), endpoint.id, 0, endpoint.tenant, 'load.test',
    'succeeded', 1, job.at, job.at
FROM (
    SELECT n, now() - ($STORED + 1 - n) * (interval '29 days' / $STORED) AS at
    FROM generate_series(1, $STORED) AS n
) AS job
JOIN (
    SELECT id, tenant, row_number() OVER (ORDER BY id) - 1 AS number, count(*) OVER () AS endpoints
    FROM webhook.endpoints
) AS endpoint ON endpoint.number = job.n % endpoint.endpoints
ORDER BY job.n;

-- Those above are the ones that have their event's id.
INSERT INTO webhook.events (id, tenant, event_type, body, created_at)
SELECT id, tenant, event_type, '{"type":"load.test","timestamp":"2026-01-01T00:00:00Z","data":{"number":1}}', created_at
FROM webhook.deliveries_history
WHERE id = event_id
ORDER BY id;

INSERT INTO webhook.attempts (delivery_id, number, started_at, duration, first_byte, request_headers, status, truncated)
SELECT id, 1, created_at, 1500, 1000, '', 200, false
FROM webhook.deliveries_history
WHERE id = event_id
ORDER BY id;

-- As merged as they would be: two hours by the minute, two days by ten minutes, the rest by the hour.
INSERT INTO webhook.stats (at, step, tenant, endpoint_id, counts)
SELECT step.at, step.seconds, counted.tenant, counted.endpoint_id, counted.counts
FROM (SELECT DISTINCT ON (tenant, endpoint_id) tenant, endpoint_id, counts FROM webhook.stats) AS counted
CROSS JOIN (
    SELECT date_bin('1 minute', now(), 'epoch') - n * interval '1 minute' AS at, 60 AS seconds
    FROM generate_series(1, 120) AS n
    UNION ALL
    SELECT date_bin('10 minutes', now() - interval '2 hours', 'epoch') - n * interval '10 minutes', 600
    FROM generate_series(1, 276) AS n
    UNION ALL
    SELECT date_bin('1 hour', now() - interval '2 days', 'epoch') - n * interval '1 hour', 3600
    FROM generate_series(1, 648) AS n
) AS step;
