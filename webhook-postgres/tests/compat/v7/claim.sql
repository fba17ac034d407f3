-- Takes ready deliveries, fairly: round the tenants, then round the lanes of each.
-- A loose index scan over `deliveries_ready` hops from tenant to tenant and from lane to lane, so that the
-- cost follows what is taken, and neither the backlog nor the history.
-- $1 now or null, $2 the most jobs, $3 the length of the leases in µs, $4 the tenant after which the round
-- goes on, $5 and $6 of tenants with many lanes: name, and the lane after which theirs goes on,
-- $7 and $8 lanes of which this process knows something, and how many jobs it takes of each; $9 how many it takes
-- of any other; $10 the most tenants that it looks at.
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
hop AS (
    (
        SELECT tenant FROM "webhook".deliveries
        WHERE ready AND tenant > $4::text
        ORDER BY tenant LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT next.tenant FROM "webhook".deliveries AS next
        WHERE next.ready AND next.tenant > hop.tenant
        ORDER BY next.tenant LIMIT 1
    )
    FROM hop
    WHERE hop.tenant IS NOT NULL
),
tenant AS MATERIALIZED (
    SELECT tenant FROM hop WHERE tenant IS NOT NULL LIMIT $10::integer
),
share AS MATERIALIZED (
    -- Rounded down: what is over would be cut off, always at the end of the round.
    SELECT greatest($2::integer / greatest(count(*), 1), 1)::integer AS jobs,
        greatest(512 / greatest(count(*), 1), 8) AS lanes
    FROM tenant
),
lane AS MATERIALIZED (
    SELECT tenant.tenant, lanes.endpoint_id, lanes.turn
    FROM tenant
    LEFT JOIN unnest($5::text[], $6::uuid[]) AS cursor (tenant, endpoint_id)
        ON cursor.tenant = tenant.tenant
    CROSS JOIN LATERAL (
        WITH RECURSIVE step AS (
            (
                SELECT endpoint_id, 1 AS turn FROM "webhook".deliveries
                WHERE ready AND tenant = tenant.tenant
                    AND endpoint_id > coalesce(
                        cursor.endpoint_id, '00000000-0000-0000-0000-000000000000'
                    )
                ORDER BY endpoint_id LIMIT 1
            )
            UNION ALL
            SELECT (
                SELECT next.endpoint_id FROM "webhook".deliveries AS next
                WHERE next.ready AND next.tenant = tenant.tenant
                    AND next.endpoint_id > step.endpoint_id
                ORDER BY next.endpoint_id LIMIT 1
            ), step.turn + 1
            FROM step
            WHERE step.endpoint_id IS NOT NULL AND step.turn < (SELECT lanes FROM share)
        )
        SELECT endpoint_id, turn FROM step WHERE endpoint_id IS NOT NULL
    ) AS lanes
),
-- What each lane allows; of the rate (GCRA), how many jobs conform now.
limits AS MATERIALIZED (
    SELECT lane.tenant, lane.endpoint_id, state.version, coalesce(state.ordered, false) AS ordered,
        coalesce(state.is_probed, false) AS is_probed,
        state.held_until > clock.now AS is_held,
        least(
            coalesce(busy.room, $9::integer),
            CASE WHEN state.max_in_flight IS NOT NULL OR state.is_probed THEN least(
                state.max_in_flight, CASE WHEN state.is_probed THEN 1 END
            ) - (
                SELECT count(*) FROM "webhook".deliveries AS running
                WHERE running.endpoint_id = lane.endpoint_id AND running.capped
                    AND running.status = 'in_progress' AND NOT running.ready
            ) END
        ) AS room,
        CASE WHEN rate.spacing IS NULL THEN 1000000 ELSE floor(
            extract(epoch FROM clock.now - greatest(state.arrival, clock.now)) / rate.spacing
        ) + rate.burst END AS conforming,
        greatest(
            state.held_until,
            CASE WHEN rate.spacing IS NOT NULL THEN
                state.arrival - rate.spacing * (rate.burst - 1) * interval '1 second'
            END
        ) AS eligible_at
    FROM lane
    CROSS JOIN clock
    LEFT JOIN "webhook".lane_state AS state ON state.endpoint_id = lane.endpoint_id
    LEFT JOIN unnest($7::uuid[], $8::integer[]) AS busy (endpoint_id, room)
        ON busy.endpoint_id = lane.endpoint_id
    -- In seconds, and as many at once as a tenth of the limit.
    CROSS JOIN LATERAL (
        SELECT state.rate_per / 1000000.0 / state.rate_limit AS spacing,
            greatest(state.rate_limit / 10, 1) AS burst
    ) AS rate
),
eligible AS MATERIALIZED (
    SELECT *, count(*) OVER (PARTITION BY tenant) AS lanes,
        row_number() OVER (PARTITION BY tenant ORDER BY endpoint_id) AS turn
    FROM limits
    WHERE is_held IS NOT true AND least(room, conforming) > 0
),
chosen AS MATERIALIZED (
    SELECT eligible.*,
        least(greatest(share.jobs / least(eligible.lanes, share.jobs), 1), room, conforming)::integer AS jobs
    FROM eligible, share
    WHERE eligible.turn <= share.jobs
    -- Each of them has a job, so nothing is cut off later.
    ORDER BY eligible.tenant, eligible.turn LIMIT $2::integer
),
-- Of two claims that saw the same room in a lane, one takes from it.
reserved AS MATERIALIZED (
    SELECT state.endpoint_id
    FROM "webhook".lane_state AS state
    JOIN chosen ON chosen.endpoint_id = state.endpoint_id AND chosen.version = state.version
    FOR UPDATE OF state SKIP LOCKED
),
head AS MATERIALIZED (
    SELECT job.id, chosen.endpoint_id
    FROM chosen
    JOIN reserved ON reserved.endpoint_id = chosen.endpoint_id
    CROSS JOIN LATERAL (
        SELECT id, ready FROM "webhook".deliveries AS first
        WHERE first.endpoint_id = chosen.endpoint_id AND first.ordered
        ORDER BY first.sequence LIMIT 1
    ) AS job
    WHERE chosen.ordered AND job.ready
),
locked_head AS MATERIALIZED (
    SELECT locked.id, head.endpoint_id
    FROM head
    CROSS JOIN LATERAL (
        SELECT id FROM "webhook".deliveries AS own
        WHERE own.id = head.id AND own.ready
        FOR UPDATE SKIP LOCKED
    ) AS locked
),
job AS MATERIALIZED (
    SELECT found.id, found.endpoint_id
    FROM chosen
    LEFT JOIN reserved ON reserved.endpoint_id = chosen.endpoint_id
    CROSS JOIN LATERAL (
        SELECT id, endpoint_id FROM "webhook".deliveries AS own
        WHERE own.ready AND own.tenant = chosen.tenant AND own.endpoint_id = chosen.endpoint_id
        ORDER BY own.due_at LIMIT chosen.jobs
        FOR UPDATE SKIP LOCKED
    ) AS found
    WHERE NOT chosen.ordered AND (chosen.version IS NULL OR reserved.endpoint_id IS NOT NULL)
    UNION ALL
    SELECT id, endpoint_id FROM locked_head
    LIMIT $2::integer
),
claimed AS (
    UPDATE "webhook".deliveries
    SET status = 'in_progress', ready = false, fence = fence + 1,
        -- So that a probe is counted, also in a lane without a cap.
        capped = capped OR endpoint_id = ANY (ARRAY(SELECT endpoint_id FROM chosen WHERE is_probed)),
        due_at = clock.now + $3::bigint * interval '1 microsecond', updated_at = clock.now
    FROM clock
    WHERE id = ANY (ARRAY(SELECT id FROM job))
    RETURNING id, endpoint_id, fence
),
spent AS (
    UPDATE "webhook".lane_state AS state
    SET version = state.version + 1,
        arrival = CASE WHEN state.rate_limit IS NULL THEN state.arrival ELSE
            greatest(state.arrival, clock.now)
            + taken.jobs * state.rate_per / state.rate_limit * interval '1 microsecond'
        END
    FROM (
        SELECT job.endpoint_id, count(*) AS jobs
        FROM job JOIN reserved USING (endpoint_id)
        GROUP BY job.endpoint_id
    ) AS taken, clock
    WHERE state.endpoint_id = taken.endpoint_id
),
-- Where there were more tenants than jobs to take: the last one of which one is taken.
last AS MATERIALIZED (
    SELECT max(tenant) AS tenant
    FROM chosen
    WHERE $10::integer > $2::integer
    HAVING count(*) = $2::integer
),
-- Of tenants with more lanes than were served or looked at: the last one that was.
goes_on AS MATERIALIZED (
    SELECT DISTINCT ON (tenant) tenant, endpoint_id
    FROM (
        SELECT tenant, endpoint_id, 1 AS preference FROM eligible, share
        WHERE eligible.turn = share.jobs AND eligible.lanes > share.jobs
        UNION ALL
        SELECT tenant, endpoint_id, 2 FROM lane, share WHERE lane.turn = share.lanes
    ) AS candidate
    WHERE tenant <= coalesce((SELECT tenant FROM last), tenant)
    ORDER BY tenant, preference
)
SELECT clock.now,
    clock.now + $3::bigint * interval '1 microsecond' AS until,
    leases.deliveries, leases.lanes, leases.fences,
    -- The round goes on after this tenant, unless it is complete.
    coalesce(
        (SELECT tenant FROM last), (SELECT max(tenant) FROM tenant HAVING count(*) = $10::integer)
    ) AS tenant_cursor,
    (SELECT array_agg(tenant) FROM goes_on) AS cursor_tenants,
    (SELECT array_agg(endpoint_id) FROM goes_on) AS cursor_lanes,
    (
        SELECT min(eligible_at) FROM limits
        WHERE eligible_at > clock.now AND room > 0
    ) AS next_eligible,
    -- If nothing can be claimed: what there is would be of these.
    CASE WHEN leases.deliveries IS NULL THEN (SELECT array_agg(endpoint_id) FROM limits) END AS blocked
FROM clock
CROSS JOIN (
    SELECT array_agg(id ORDER BY place) AS deliveries,
        array_agg(claimed.endpoint_id ORDER BY place) AS lanes, array_agg(fence ORDER BY place) AS fences
    FROM claimed
    JOIN (SELECT id, row_number() OVER () AS place FROM job) AS place USING (id)
) AS leases
