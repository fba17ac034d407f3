-- Takes the running bulk replay that has been due the longest, if one is due, for a time: its step is refused to
-- whoever took it before. Answers also when the next one is due otherwise. $1 now or null, $2 for how long, in µs.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
next AS MATERIALIZED (
    SELECT id, next_at FROM "webhook".replays
    WHERE state = 'running'
    ORDER BY next_at, id LIMIT 1
    FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE "webhook".replays AS replay
    SET fence = replay.fence + 1, next_at = clock.now + $2::bigint * interval '1 microsecond'
    FROM next, clock
    WHERE replay.id = next.id AND next.next_at <= clock.now
    RETURNING replay.*
)
SELECT next.id AS next_id, claimed.id IS NOT NULL AS is_claimed,
    greatest(extract(epoch FROM next.next_at - clock.now) * 1000000, 0)::bigint AS next_in,
    claimed.id, claimed.tenant, claimed.selection, claimed.state, claimed.pace, claimed.total,
    claimed.total_is_exact, claimed.done, claimed.skipped, claimed.created_by, claimed.created_at, claimed.updated_at,
    claimed.after, claimed.fence
FROM next
CROSS JOIN clock
LEFT JOIN claimed ON true
