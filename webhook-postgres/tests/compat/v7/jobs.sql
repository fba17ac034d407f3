-- Which of these deliveries are live. $1 their ids.
SELECT delivery.id, delivery.endpoint_id, delivery.tenant, delivery.due_at, delivery.fence,
    delivery.sequence, lane.max_in_flight, lane.rate_limit, lane.rate_per,
    coalesce(lane.ordered, false) AS ordered
FROM "webhook".deliveries AS delivery
JOIN "webhook".endpoints AS endpoint ON endpoint.id = delivery.endpoint_id
LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = delivery.endpoint_id
WHERE delivery.id = ANY ($1::uuid[])
