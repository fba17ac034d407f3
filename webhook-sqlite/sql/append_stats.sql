WITH stats (at, step, tenant, endpoint_id, counts) AS (VALUES (?, ?, ?, ?, ?))
INSERT INTO webhook_stats (at, step, tenant, endpoint_id, counts)
SELECT at, step, tenant, endpoint_id, counts
FROM stats
WHERE at IS NOT NULL
