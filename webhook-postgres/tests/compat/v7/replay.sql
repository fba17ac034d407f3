-- Makes a new delivery of an event for each of these endpoints that has no live one.
-- $1 now or null, $2 event, $3 and $4 the first and last id that its first deliveries can have,
-- $5 endpoints.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
known AS MATERIALIZED (
    SELECT endpoint_id, replay_no, status IN ('pending', 'in_progress') AS is_live
    FROM "webhook".all_deliveries
    WHERE event_id = $2::uuid AND (replay_no > 0 OR id BETWEEN $3::uuid AND $4::uuid)
),
next AS MATERIALIZED (
    SELECT endpoint.id AS endpoint_id, coalesce(max(known.replay_no) + 1, 0) AS replay_no
    FROM "webhook".endpoints AS endpoint
    LEFT JOIN known ON known.endpoint_id = endpoint.id
    WHERE endpoint.id = ANY ($5::uuid[])
    GROUP BY endpoint.id
    HAVING bool_or(known.is_live) IS NOT true
),
made AS (
    INSERT INTO "webhook".deliveries (
        id, event_id, endpoint_id, replay_no, tenant, event_type, ready, due_at, first_due,
        sequence, capped, ordered, created_at, updated_at
    )
    SELECT "webhook".delivery_id(
            -- The first is the one that the fan-out would have made: it is looked for there.
            CASE next.replay_no WHEN 0 THEN event.created_at ELSE clock.now END,
            event.id, next.endpoint_id, next.replay_no
        ), event.id, next.endpoint_id, next.replay_no, event.tenant, event.event_type, true, clock.now,
        clock.now, nextval('"webhook".delivery_sequence'), lane.max_in_flight IS NOT NULL,
        coalesce(lane.ordered, false), clock.now, clock.now
    FROM next
    JOIN "webhook".events AS event ON event.id = $2::uuid
    CROSS JOIN clock
    LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = next.endpoint_id
    RETURNING *
)
SELECT made.id, made.endpoint_id, made.tenant, made.due_at, made.fence, made.sequence,
    lane.max_in_flight, lane.rate_limit, lane.rate_per, made.ordered
FROM made
LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = made.endpoint_id
