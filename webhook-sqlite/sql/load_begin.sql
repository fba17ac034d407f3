-- Gives deliveries to the owners of leases of an index queue, whoever had them before.
WITH lease (id, fence, until) AS (VALUES (?, ?, ?))
UPDATE webhook_deliveries
SET status = 'in_progress', leased = 1, lease_until = lease.until, fence = lease.fence, updated_at = ?
FROM lease
WHERE webhook_deliveries.id = lease.id AND webhook_deliveries.fence < lease.fence
