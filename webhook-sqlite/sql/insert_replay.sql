INSERT INTO webhook_replays
    (
        id, tenant, selection, state, pace, total, total_is_exact, done, skipped, created_by, created_at, updated_at,
        next_at
    )
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?11)
