-- A page of the live deliveries in the order of their ids. $1 the id before it, $2 the most.
SELECT delivery.id, delivery.endpoint_id, delivery.tenant, delivery.due_at, delivery.fence,
    delivery.sequence, lane.max_in_flight, lane.rate_limit, lane.rate_per,
    coalesce(lane.ordered, false) AS ordered
FROM (
    SELECT * FROM "webhook".deliveries
    WHERE id > $1::uuid
    ORDER BY id LIMIT $2::bigint
) AS delivery
LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = delivery.endpoint_id
ORDER BY delivery.id
