-- Half of them those whose lease has passed, half those that wait, from lane to lane.
WITH overdue AS (
    SELECT sequence
    FROM (
        SELECT sequence
        FROM webhook_deliveries
        WHERE leased = 1 AND lease_until < ?1
        ORDER BY lease_until
        LIMIT (?2 + 1) / 2
    )
    UNION ALL
    SELECT sequence
    FROM (
        SELECT delivery.sequence
        FROM webhook_endpoints AS endpoint
        CROSS JOIN webhook_deliveries AS delivery ON delivery.endpoint_id = endpoint.id
        WHERE delivery.leased = 0 AND delivery.place < ?1 AND delivery.due < ?1
        LIMIT (?2 / 2)
    )
)
SELECT
    delivery.id, delivery.endpoint_id, delivery.tenant, coalesce(delivery.lease_until, delivery.due) AS due,
    delivery.fence, delivery.sequence, endpoint.max_in_flight, endpoint.rate_limit, endpoint.rate_per, endpoint.ordered
FROM overdue
CROSS JOIN webhook_deliveries AS delivery ON delivery.sequence = overdue.sequence
CROSS JOIN webhook_endpoints AS endpoint ON endpoint.id = delivery.endpoint_id
