-- Writes outcomes, each only if its claim is current: what has ended moves to the history, what is tried
-- again waits, and either way the attempt is logged.
-- $1 now or null, then arrays of one element an outcome: $2 delivery, $3 fence, $4 status, $5 end reason,
-- $6 µs until the retry, $7 last error; of the attempt, if there was one: $8 started_at, $9 duration,
-- $10 first_byte, $11 request_headers, $12 status, $13 error_kind, $14 response_headers, $15 response_body,
-- $16 truncated; $17 how long the lane is held, in µs, or null.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
input AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[],
        $8::timestamptz[], $9::bigint[], $10::bigint[], $11::bytea[], $12::smallint[],
        $13::text[], $14::bytea[], $15::bytea[], $16::boolean[], $17::bigint[]
    ) AS input (
        id, fence, status, end_reason, retry_after, last_error, started_at, duration,
        first_byte, request_headers, response_status, error_kind, response_headers, response_body,
        truncated, hold
    )
),
retried AS (
    UPDATE "webhook".deliveries AS delivery
    SET status = 'pending', ready = false,
        due_at = clock.now + input.retry_after * interval '1 microsecond',
        attempts = delivery.attempts + (input.started_at IS NOT NULL)::integer,
        excused = delivery.excused + (input.error_kind IS NOT DISTINCT FROM 'internal')::integer,
        last_error = CASE WHEN input.started_at IS NULL THEN delivery.last_error ELSE input.last_error END,
        updated_at = clock.now
    FROM input, clock
    WHERE delivery.id = input.id AND delivery.fence = input.fence
        AND delivery.status || '' = 'in_progress' AND input.retry_after IS NOT NULL
    RETURNING delivery.id, delivery.fence, delivery.endpoint_id, delivery.attempts
),
ended AS (
    DELETE FROM "webhook".deliveries AS delivery
    USING input
    WHERE delivery.id = input.id AND delivery.fence = input.fence
        AND delivery.status || '' = 'in_progress' AND input.retry_after IS NULL
    RETURNING delivery.id, delivery.fence, delivery.event_id, delivery.endpoint_id, delivery.replay_no,
        delivery.tenant, delivery.event_type, input.status, input.end_reason,
        delivery.attempts + (input.started_at IS NOT NULL)::integer AS attempts,
        CASE WHEN input.started_at IS NULL THEN delivery.last_error ELSE input.last_error END
            AS last_error,
        delivery.created_at
),
kept AS (
    INSERT INTO "webhook".deliveries_history (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts,
        last_error, created_at, updated_at
    )
    SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts,
        last_error, created_at, clock.now
    FROM ended, clock
),
written AS MATERIALIZED (
    SELECT id, fence, endpoint_id, attempts FROM retried
    UNION ALL
    SELECT id, fence, endpoint_id, attempts FROM ended
),
logged AS (
    INSERT INTO "webhook".attempts (
        delivery_id, number, started_at, duration, first_byte, request_headers, status, error_kind,
        response_headers, response_body, truncated
    )
    SELECT written.id, written.attempts, input.started_at, input.duration, input.first_byte,
        input.request_headers, input.response_status, input.error_kind, input.response_headers,
        input.response_body, input.truncated
    FROM written
    JOIN input ON input.id = written.id AND input.fence = written.fence
    WHERE input.started_at IS NOT NULL
),
held AS (
    INSERT INTO "webhook".lane_state AS state (endpoint_id, held_until)
    SELECT written.endpoint_id, max(clock.now + input.hold * interval '1 microsecond')
    FROM written
    JOIN input ON input.id = written.id AND input.fence = written.fence
    CROSS JOIN clock
    WHERE input.hold IS NOT NULL
    GROUP BY written.endpoint_id
    ORDER BY written.endpoint_id
    ON CONFLICT (endpoint_id) DO UPDATE SET
        held_until = greatest(state.held_until, excluded.held_until), version = state.version + 1
)
SELECT id, fence FROM written
