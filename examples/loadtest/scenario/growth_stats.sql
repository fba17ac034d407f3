-- The statistics of 29 days, with what was counted so far in each step.
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
