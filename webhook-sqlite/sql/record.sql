-- The deliveries whose claim is current.
WITH lease (id, fence) AS (VALUES (?, ?))
SELECT delivery.id, delivery.fence, delivery.sequence, delivery.endpoint_id, delivery.attempts, delivery.last_error
FROM lease
CROSS JOIN webhook_deliveries AS delivery ON delivery.id = lease.id
WHERE delivery.fence = lease.fence AND delivery.status = 'in_progress'
