-- Moves the replay ?1 on, or ends it: ?2 its state, ?3 the last row that it has looked at, ?4 what it made and ?5
-- passed over, ?6 now, ?7 when its next step is due.
UPDATE webhook_replays
SET
    state = ?2,
    after = ?3,
    done = done + ?4,
    skipped = skipped + ?5,
    updated_at = ?6,
    next_at = ?7
WHERE id = ?1
