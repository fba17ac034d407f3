-- What waits for an endpoint; no row if it is not there. $1 now or null, $2 endpoint, $3 tenant or null for all, $4 the
-- most to count of each.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
found AS MATERIALIZED (
    SELECT id, tenant FROM "webhook".endpoints WHERE id = $2::uuid AND ($3::text IS NULL OR tenant = $3)
),
ready AS MATERIALIZED (
    SELECT job.due_at
    FROM found
    CROSS JOIN LATERAL (
        SELECT due_at FROM "webhook".deliveries
        WHERE ready AND tenant = found.tenant AND endpoint_id = found.id
        ORDER BY due_at LIMIT $4::bigint
    ) AS job
),
later AS MATERIALIZED (
    SELECT job.due_at
    FROM found
    CROSS JOIN LATERAL (
        SELECT due_at FROM "webhook".deliveries
        WHERE NOT ready AND status = 'pending' AND endpoint_id = found.id
        ORDER BY due_at LIMIT $4::bigint
    ) AS job
)
SELECT
    least($4::bigint, (SELECT count(*) FROM ready)
        + (SELECT count(*) FROM later WHERE due_at <= clock.now)) AS due,
    (SELECT count(*) FROM later WHERE due_at > clock.now) AS parked,
    least((SELECT min(due_at) FROM ready), (SELECT min(due_at) FROM later)) AS oldest_due
FROM clock, found
