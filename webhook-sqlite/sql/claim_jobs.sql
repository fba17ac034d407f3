-- Leases the first jobs of these lanes, of each as many as its quota says, head by head.
WITH RECURSIVE
lane (endpoint_id, quota) AS (VALUES (?, ?)),
job (endpoint_id, quota, sequence) AS (
    SELECT
        lane.endpoint_id,
        lane.quota,
        (
            SELECT head.sequence
            FROM webhook_deliveries AS head
            WHERE head.endpoint_id = lane.endpoint_id AND head.leased = 0
            ORDER BY head.place, head.sequence
            LIMIT 1
        )
    FROM lane
    UNION ALL
    SELECT
        job.endpoint_id,
        job.quota - 1,
        (
            SELECT head.sequence
            FROM webhook_deliveries AS head
            WHERE head.endpoint_id = job.endpoint_id
                AND head.leased = 0
                AND (head.place, head.sequence)
                > ((SELECT last.place FROM webhook_deliveries AS last WHERE last.sequence = job.sequence), job.sequence)
                AND head.place <= ?
            ORDER BY head.place, head.sequence
            LIMIT 1
        )
    FROM job
    WHERE job.quota > 1 AND job.sequence IS NOT NULL
)
UPDATE webhook_deliveries
SET status = 'in_progress', leased = 1, lease_until = ?, fence = fence + 1, updated_at = ?
WHERE sequence IN (SELECT sequence FROM job)
RETURNING id, endpoint_id, fence, place, sequence
