-- Tells live deliveries how their lanes are scheduled, if they were accepted while that changed and so do not
-- know. An ordered lane's are claimed by its line alone: a stray would wait for ever. $1 only what is ready.
UPDATE "webhook".deliveries AS delivery SET capped = stray.capped, ordered = stray.ordered
FROM (
    SELECT own.id, coalesce(lane.ordered, false) AS ordered,
        -- A probe in flight stays counted.
        lane.max_in_flight IS NOT NULL OR own.capped AND own.status = 'in_progress' AS capped
    FROM "webhook".deliveries AS own
    LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = own.endpoint_id
    WHERE (own.ready OR NOT $1::boolean)
        AND (own.capped, own.ordered)
            IS DISTINCT FROM (
                lane.max_in_flight IS NOT NULL OR own.capped AND own.status = 'in_progress',
                coalesce(lane.ordered, false)
            )
    ORDER BY own.id
    FOR UPDATE OF own
) AS stray
WHERE delivery.id = stray.id
