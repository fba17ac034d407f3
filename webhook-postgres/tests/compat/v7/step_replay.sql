-- A step of a bulk replay: makes the deliveries and moves it on behind them, unless somebody else has taken it since
-- or ended it. $1 now or null, $2 the replay, $3 its fence, $4 the state it comes to, $5 the last row that was looked
-- at, $6 how many were passed over; then arrays of one element a delivery: $7 event, $8 endpoint, $9 the last replay
-- of them that was found, or -1.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
wanted AS MATERIALIZED (
    SELECT wanted.event_id, wanted.endpoint_id, wanted.replay_no, wanted.place, event.tenant, event.event_type,
        event.created_at
    FROM unnest($7::uuid[], $8::uuid[], $9::integer[])
        WITH ORDINALITY AS wanted (event_id, endpoint_id, replay_no, place)
    JOIN "webhook".events AS event ON event.id = wanted.event_id
    JOIN "webhook".endpoints AS endpoint ON endpoint.id = wanted.endpoint_id
),
-- What has been replayed meanwhile is left out.
known AS MATERIALIZED (
    SELECT wanted.place
    FROM wanted
    JOIN "webhook".deliveries AS newer ON newer.event_id = wanted.event_id AND newer.replay_no > 0
        AND newer.endpoint_id = wanted.endpoint_id AND newer.replay_no > wanted.replay_no
    UNION
    SELECT wanted.place
    FROM wanted
    JOIN "webhook".deliveries_history AS newer ON newer.event_id = wanted.event_id AND newer.replay_no > 0
        AND newer.endpoint_id = wanted.endpoint_id AND newer.replay_no > wanted.replay_no
    UNION
    SELECT wanted.place
    FROM wanted
    WHERE wanted.replay_no < 0 AND (
        EXISTS (
            SELECT FROM "webhook".deliveries
            WHERE id = "webhook".delivery_id(wanted.created_at, wanted.event_id, wanted.endpoint_id, 0)
        ) OR EXISTS (
            SELECT FROM "webhook".deliveries_history
            WHERE id = "webhook".delivery_id(wanted.created_at, wanted.event_id, wanted.endpoint_id, 0)
        )
    )
),
next AS MATERIALIZED (
    SELECT wanted.* FROM wanted
    WHERE wanted.place NOT IN (SELECT place FROM known)
    ORDER BY wanted.place
),
moved AS (
    UPDATE "webhook".replays AS replay
    SET state = $4::text, after = $5::uuid, done = replay.done + next.made,
        skipped = replay.skipped + $6::bigint + cardinality($7::uuid[]) - next.made, updated_at = clock.now,
        next_at = clock.now + next.made * interval '1 second' / replay.pace
    FROM clock, (SELECT count(*) AS made FROM next) AS next
    WHERE replay.id = $2::uuid AND replay.fence = $3::bigint AND replay.state = 'running'
    RETURNING replay.id
),
numbered AS MATERIALIZED (
    SELECT next.*, nextval('"webhook".delivery_sequence') AS sequence
    FROM next
    WHERE EXISTS (SELECT FROM moved)
),
made AS (
    INSERT INTO "webhook".deliveries (
        id, event_id, endpoint_id, replay_no, tenant, event_type, ready, due_at, first_due,
        sequence, capped, ordered, created_at, updated_at
    )
    SELECT "webhook".delivery_id(
            -- The first is the one that the fan-out would have made: it is looked for there.
            CASE WHEN next.replay_no < 0 THEN next.created_at ELSE clock.now END,
            next.event_id, next.endpoint_id, next.replay_no + 1
        ), next.event_id, next.endpoint_id, next.replay_no + 1, next.tenant, next.event_type, true, clock.now,
        clock.now, next.sequence, lane.max_in_flight IS NOT NULL,
        coalesce(lane.ordered, false), clock.now, clock.now
    FROM numbered AS next
    CROSS JOIN clock
    LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = next.endpoint_id
    RETURNING *
)
SELECT made.id, made.endpoint_id, made.tenant, made.due_at, made.fence, made.sequence,
    lane.max_in_flight, lane.rate_limit, lane.rate_per, made.ordered
FROM made
LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = made.endpoint_id
