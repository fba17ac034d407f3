WITH retry (sequence, attempts, last_error, due) AS (VALUES (?, ?, ?, ?))
UPDATE webhook_deliveries
SET
    status = 'pending',
    leased = 0,
    lease_until = NULL,
    attempts = retry.attempts,
    last_error = retry.last_error,
    due = retry.due,
    place = CASE place WHEN 0 THEN 0 ELSE retry.due END,
    updated_at = ?
FROM retry
WHERE webhook_deliveries.sequence = retry.sequence
