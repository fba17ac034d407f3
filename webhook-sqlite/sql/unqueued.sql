SELECT
    delivery.id, delivery.endpoint_id, delivery.tenant, coalesce(delivery.lease_until, delivery.due) AS due,
    delivery.fence, delivery.sequence, endpoint.max_in_flight, endpoint.rate_limit, endpoint.rate_per, endpoint.ordered
FROM webhook_deliveries AS delivery
CROSS JOIN webhook_endpoints AS endpoint ON endpoint.id = delivery.endpoint_id
WHERE delivery.id > ?1
ORDER BY delivery.id
LIMIT +?2
