WITH wanted (id) AS (VALUES (?))
SELECT
    delivery.id, delivery.status, delivery.fence, delivery.due, delivery.first_due, delivery.attempts,
    delivery.event_id, delivery.endpoint_id, endpoint.version
FROM wanted
CROSS JOIN webhook_deliveries AS delivery ON delivery.id = wanted.id
LEFT JOIN webhook_endpoints AS endpoint ON endpoint.id = delivery.endpoint_id
