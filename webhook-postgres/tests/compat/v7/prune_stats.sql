-- Drops statistics that are too old. Bounded.
-- $1 now or null, $2 how long they are kept, in µs, $3 the most rows.
DELETE FROM "webhook".stats
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM "webhook".stats
    WHERE step IN (60, 600, 3600)
        AND at < coalesce($1::timestamptz, now()) - $2::bigint * interval '1 microsecond'
    LIMIT $3::bigint
))
