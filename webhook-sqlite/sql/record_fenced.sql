-- Those of these leases that are stale, or whose delivery has ended.
WITH lease (id, fence) AS (VALUES (?, ?))
SELECT lease.id, lease.fence
FROM lease
WHERE lease.id IS NOT NULL AND NOT EXISTS (
    SELECT 1
    FROM webhook_deliveries AS delivery
    WHERE delivery.id = lease.id AND delivery.fence = lease.fence AND delivery.status = 'in_progress'
)
