-- Counts what waits. $1 now or null.
SELECT count(*) FILTER (WHERE status = 'pending' AND due_at <= clock.now) AS ready,
    count(*) FILTER (WHERE status = 'pending' AND due_at > clock.now) AS parked,
    count(*) FILTER (WHERE status = 'in_progress') AS leased,
    min(due_at) FILTER (WHERE status = 'pending') AS oldest_due
FROM "webhook".deliveries
CROSS JOIN (SELECT coalesce($1::timestamptz, now()) AS now) AS clock
