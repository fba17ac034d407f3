-- Gives back claims that were not used.
WITH unused (id, fence, due) AS (VALUES (?, ?, ?))
UPDATE webhook_deliveries
SET
    status = 'pending',
    leased = 0,
    lease_until = NULL,
    due = unused.due,
    place = CASE place WHEN 0 THEN 0 ELSE unused.due END,
    updated_at = ?
FROM unused
WHERE webhook_deliveries.id = unused.id
    AND webhook_deliveries.fence = unused.fence
    AND webhook_deliveries.status = 'in_progress'
RETURNING webhook_deliveries.endpoint_id
