SELECT
    id, tenant, selection, state, pace, total, total_is_exact, done, skipped, created_by, created_at, updated_at, after
FROM webhook_replays
WHERE TRUE
