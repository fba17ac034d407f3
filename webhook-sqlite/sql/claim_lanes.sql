-- The lanes whose turn it is: of the tenants after ?1, each one's longest unserved; about ?2 in all.
-- Hops from tenant to tenant by the index of ready lanes, and never looks at others. Leaves out the lanes of ?4, a
-- list of ids as JSON, and so looks at up to ?3 tenants.
WITH RECURSIVE
full_lanes (endpoint_id) AS MATERIALIZED (
    SELECT unhex(value) FROM json_each(?4)
),
later (tenant) AS (
    SELECT min(tenant) FROM webhook_lanes WHERE state = 'ready' AND tenant > ?1
    UNION ALL
    SELECT (SELECT min(lane.tenant) FROM webhook_lanes AS lane WHERE lane.state = 'ready' AND lane.tenant > later.tenant)
    FROM later
    WHERE later.tenant IS NOT NULL
    LIMIT +?3
),
earlier (tenant) AS (
    SELECT min(tenant) FROM webhook_lanes WHERE state = 'ready' AND tenant <= ?1
    UNION ALL
    SELECT (
        SELECT min(lane.tenant)
        FROM webhook_lanes AS lane
        WHERE lane.state = 'ready' AND lane.tenant > earlier.tenant AND lane.tenant <= ?1
    )
    FROM earlier
    WHERE earlier.tenant IS NOT NULL
    LIMIT +?3
),
turns (tenant) AS MATERIALIZED (
    SELECT tenant
    FROM (SELECT tenant FROM later UNION ALL SELECT tenant FROM earlier) AS hop
    WHERE hop.tenant IS NOT NULL AND EXISTS (
        SELECT *
        FROM webhook_lanes AS own
        WHERE own.state = 'ready' AND own.tenant = hop.tenant AND own.endpoint_id NOT IN full_lanes
    )
    LIMIT +?2
)
SELECT
    lane.endpoint_id, lane.tenant, lane.turn, lane.held_until, lane.is_probed, lane.arrival,
    endpoint.max_in_flight, endpoint.rate_limit, endpoint.rate_per, endpoint.ordered,
    (
        SELECT count(*) FROM webhook_deliveries AS job WHERE job.endpoint_id = lane.endpoint_id AND job.leased = 1
    ) AS in_flight,
    (
        SELECT job.due
        FROM webhook_deliveries AS job
        WHERE job.endpoint_id = lane.endpoint_id AND job.leased = 0
        ORDER BY job.place, job.sequence
        LIMIT 1
    ) AS head_due
FROM turns
CROSS JOIN webhook_lanes AS lane ON lane.endpoint_id IN (
    SELECT own.endpoint_id
    FROM webhook_lanes AS own
    WHERE own.state = 'ready' AND own.tenant = turns.tenant AND own.endpoint_id NOT IN full_lanes
    ORDER BY own.turn
    LIMIT max(1, ?2 / (SELECT count(*) FROM turns))
)
CROSS JOIN webhook_endpoints AS endpoint ON endpoint.id = lane.endpoint_id
