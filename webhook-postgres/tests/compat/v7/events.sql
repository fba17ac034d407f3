-- A page of events, newest first. $1 tenant or null for all, $2 the id before which it begins or null,
-- $3 the most; filters, null where there is none: $4 event_type, $5 since, $6 until, $7 bytes in the
-- body, which is not read but for that, and left out; $8 the last id that is looked at, or null. Ids begin with a time, by
-- a clock that is taken to agree with ours within an hour: so a time is a place in the index.
SELECT id, tenant, event_type, ''::bytea AS body, created_at, deliver_at, traceparent
FROM "webhook".events
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($4::text IS NULL OR event_type = $4)
    AND ($5::timestamptz IS NULL OR created_at >= $5 AND id >= "webhook".first_id($5 - interval '1 hour'))
    AND ($6::timestamptz IS NULL OR created_at < $6 AND id < "webhook".first_id($6 + interval '1 hour'))
    AND ($7::bytea IS NULL OR position($7 IN body) > 0)
    AND ($8::uuid IS NULL OR id >= $8)
ORDER BY id DESC LIMIT $3::bigint
