-- Live deliveries that nobody owns and that were due before $1, at most $2. Half of them those that had to wait, or
-- whose lease has passed, half those that never had to, from lane to lane: what has an index.
WITH overdue AS MATERIALIZED (
    (
        SELECT id FROM "webhook".deliveries
        WHERE NOT ready AND due_at < $1::timestamptz
        ORDER BY due_at LIMIT ($2::bigint + 1) / 2
    )
    UNION ALL
    (
        SELECT id FROM "webhook".deliveries
        WHERE ready AND due_at < $1::timestamptz
        ORDER BY tenant, endpoint_id, due_at LIMIT $2::bigint / 2
    )
)
SELECT delivery.id, delivery.endpoint_id, delivery.tenant, delivery.due_at, delivery.fence,
    delivery.sequence, lane.max_in_flight, lane.rate_limit, lane.rate_per,
    coalesce(lane.ordered, false) AS ordered
FROM overdue
JOIN "webhook".deliveries AS delivery ON delivery.id = overdue.id
LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = delivery.endpoint_id
