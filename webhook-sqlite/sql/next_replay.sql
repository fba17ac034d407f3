-- The running replay that has been due the longest, or will be due first.
SELECT
    id, tenant, selection, state, pace, total, total_is_exact, done, skipped, created_by, created_at, updated_at, after,
    next_at
FROM webhook_replays
WHERE state = 'running'
ORDER BY next_at, id
LIMIT 1
