-- Counts what waits, as far as some index entries tell: its cost follows neither the backlog nor what is parked.
-- $1 now or null, $2 the most to count, $3 the most lanes in which the oldest job is looked for.
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
-- The order keeps it to the index.
backlog AS MATERIALIZED (
    SELECT count(*) AS jobs
    FROM (
        SELECT FROM "webhook".deliveries
        WHERE ready
        ORDER BY tenant, endpoint_id, due_at LIMIT $2::bigint
    ) AS job
),
-- The first of each lane: hops from lane to lane, as a claim does.
head AS (
    (
        SELECT tenant, endpoint_id, due_at, 1::bigint AS lane
        FROM "webhook".deliveries
        WHERE ready
        ORDER BY tenant, endpoint_id, due_at LIMIT 1
    )
    UNION ALL
    SELECT next.tenant, next.endpoint_id, next.due_at, head.lane + 1
    FROM head
    CROSS JOIN LATERAL (
        SELECT job.tenant, job.endpoint_id, job.due_at
        FROM "webhook".deliveries AS job
        WHERE job.ready AND (job.tenant, job.endpoint_id) > (head.tenant, head.endpoint_id)
        ORDER BY job.tenant, job.endpoint_id, job.due_at LIMIT 1
    ) AS next
    WHERE head.lane < $3::bigint
),
-- What is parked, and the ends of leases among it.
later AS MATERIALIZED (
    SELECT status, due_at, endpoint_id
    FROM "webhook".deliveries
    WHERE NOT ready
    ORDER BY due_at LIMIT $2::bigint
),
first AS MATERIALIZED (
    SELECT endpoint_id, min(due_at) AS due_at
    FROM (
        SELECT endpoint_id, due_at FROM head
        UNION ALL
        SELECT endpoint_id, due_at FROM later WHERE status = 'pending'
    ) AS job
    GROUP BY endpoint_id
)
SELECT
    least($2::bigint, (SELECT jobs FROM backlog) + (
        SELECT count(*) FROM later WHERE status = 'pending' AND due_at <= clock.now
    )) AS ready,
    (SELECT count(*) FROM later WHERE status = 'pending' AND due_at > clock.now) AS parked,
    (SELECT count(*) FROM later WHERE status = 'in_progress') AS leased,
    -- When the first lane becomes or became eligible: the same limits as in a claim.
    (
        SELECT min(greatest(
            coalesce(ordered.due_at, first.due_at), state.held_until,
            state.arrival - rate.spacing * (rate.burst - 1) * interval '1 second'
        ))
        FROM first
        LEFT JOIN "webhook".lane_state AS state ON state.endpoint_id = first.endpoint_id
        CROSS JOIN LATERAL (
            SELECT state.rate_per / 1000000.0 / state.rate_limit AS spacing,
                greatest(state.rate_limit / 10, 1) AS burst,
                least(state.max_in_flight, CASE WHEN state.is_probed THEN 1 END) AS most
        ) AS rate
        LEFT JOIN LATERAL (
            SELECT head.due_at, head.status
            FROM "webhook".deliveries AS head
            WHERE head.endpoint_id = first.endpoint_id AND head.ordered
            ORDER BY head.sequence LIMIT 1
        ) AS ordered ON state.ordered
        WHERE ordered.status IS DISTINCT FROM 'in_progress'
            AND (rate.most IS NULL OR rate.most > (
                SELECT count(*) FROM "webhook".deliveries AS running
                WHERE running.endpoint_id = first.endpoint_id AND running.capped
                    AND running.status = 'in_progress' AND NOT running.ready
            ))
    ) AS oldest_due
FROM clock
