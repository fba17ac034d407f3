-- Drops the bulk replays that have ended too long ago. $1 now or null, $2 how long to keep them, in µs.
DELETE FROM "webhook".replays
WHERE state <> 'running'
    AND updated_at < coalesce($1::timestamptz, now()) - $2::bigint * interval '1 microsecond'
