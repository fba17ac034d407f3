-- Where a page of events ends at the latest, if there are more of those that an index finds: as events.sql, $1 tenant,
-- $2 the id before which it begins, $3 since, $4 until; $5 how many are passed over.
SELECT id FROM "webhook".events
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($3::timestamptz IS NULL OR id >= "webhook".first_id($3 - interval '1 hour'))
    AND ($4::timestamptz IS NULL OR id < "webhook".first_id($4 + interval '1 hour'))
ORDER BY id DESC OFFSET $5::bigint LIMIT 1
