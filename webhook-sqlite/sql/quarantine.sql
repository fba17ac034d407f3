-- Those of these leases that nobody has claimed after.
WITH lease (id, fence) AS (VALUES (?, ?))
SELECT lease.id
FROM lease
CROSS JOIN webhook_deliveries AS delivery ON delivery.id = lease.id
WHERE delivery.fence <= lease.fence
