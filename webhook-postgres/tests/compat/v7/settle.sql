-- Gives back claims that were not used, and what they spent of their lane's rate.
-- $1 now or null, then arrays of one element a claim: $2 delivery, $3 fence, $4 µs until it is due.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
input AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS input (id, fence, delay)
),
returned AS (
    UPDATE "webhook".deliveries AS delivery
    SET status = 'pending', ready = input.delay <= 0,
        due_at = clock.now + input.delay * interval '1 microsecond', updated_at = clock.now
    FROM input, clock
    WHERE delivery.id = input.id AND delivery.fence = input.fence
        AND delivery.status || '' = 'in_progress'
    RETURNING delivery.endpoint_id
),
refunded AS (
    UPDATE "webhook".lane_state AS state
    SET version = state.version + 1,
        arrival = state.arrival - lane.jobs * state.rate_per / state.rate_limit * interval '1 microsecond'
    FROM (SELECT endpoint_id, count(*) AS jobs FROM returned GROUP BY endpoint_id) AS lane
    WHERE state.endpoint_id = lane.endpoint_id AND state.rate_limit IS NOT NULL
)
SELECT count(*) FROM returned
