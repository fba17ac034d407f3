WITH retry (id, attempts, last_error, due) AS (VALUES (?, ?, ?, ?))
UPDATE webhook_deliveries
SET
    status = 'pending',
    leased = 0,
    lease_until = NULL,
    attempts = webhook_deliveries.attempts + retry.attempts,
    excused = excused + (retry.attempts > 0 AND retry.last_error IS 'internal'),
    last_error = CASE retry.attempts WHEN 0 THEN webhook_deliveries.last_error ELSE retry.last_error END,
    due = retry.due,
    place = CASE place WHEN 0 THEN 0 ELSE retry.due END,
    updated_at = ?
FROM retry
WHERE webhook_deliveries.id = retry.id
