-- Drops what is too old of the audit log, at most some rows. $1 now or null, $2 how long to keep it, in µs, $3 the most.
DELETE FROM "webhook".audit
WHERE id IN (
    SELECT id FROM "webhook".audit
    WHERE at < coalesce($1::timestamptz, now()) - $2::bigint * interval '1 microsecond'
    ORDER BY at LIMIT $3::bigint
)
