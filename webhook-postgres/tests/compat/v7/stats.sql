-- Rows of statistics. The steps are all that there are: their index then finds the times.
-- $1 from, $2 until, $3 a tenant or null, $4 an endpoint or null.
SELECT at, step, tenant, endpoint_id, counts
FROM "webhook".stats
WHERE step IN (60, 600, 3600) AND at >= $1::timestamptz AND at < $2::timestamptz
    AND ($3::text IS NULL OR tenant = $3)
    AND ($4::uuid IS NULL OR endpoint_id = $4)
