-- Leases the first jobs of each of these lanes that are due, up to a quota.
WITH lane (endpoint_id) AS (VALUES (?))
UPDATE webhook_deliveries
SET status = 'in_progress', leased = 1, fence = fence + 1, lease_until = ?, updated_at = ?
WHERE sequence IN (
    SELECT job.sequence
    FROM lane
    CROSS JOIN webhook_deliveries AS job ON job.sequence IN (
        SELECT head.sequence
        FROM webhook_deliveries AS head
        WHERE head.endpoint_id = lane.endpoint_id AND head.leased = 0 AND head.place <= ?
        ORDER BY head.place, head.sequence
        LIMIT +?
    )
)
RETURNING id, endpoint_id, fence, place, sequence
