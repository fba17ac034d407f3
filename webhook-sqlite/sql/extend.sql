WITH lease (id, fence) AS (VALUES (?, ?))
UPDATE webhook_deliveries
SET lease_until = ?
FROM lease
WHERE webhook_deliveries.id = lease.id AND webhook_deliveries.fence = lease.fence AND webhook_deliveries.leased = 1
RETURNING webhook_deliveries.id, webhook_deliveries.fence
