-- The steps are all that there are: their index then finds the times.
SELECT at, step, tenant, endpoint_id, counts
FROM webhook_stats
WHERE step IN (60000000, 600000000, 3600000000)
