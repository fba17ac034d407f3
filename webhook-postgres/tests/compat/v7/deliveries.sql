-- A page of deliveries, newest first. $1 tenant or null for all, $2 the id before which it begins or null,
-- $3 the most; filters, null where there is none: $4 endpoint, $5 event, $6 event_type, $7 status,
-- $8 last_errors, $9 since, $10 until, $11 cause of the failure; $12 when the event was made, as its id says, or null;
-- $13 the last id that is looked at, or null.
-- Ids begin with a time, by a clock that is taken to agree with ours within an hour: so `until` is a place in the index,
-- and what an event made itself is near it. `since` is none: what a replay made for an endpoint that had missed the event
-- has an id of the event's time.
SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts,
    next_retry_at, last_error, created_at, updated_at
FROM "webhook".all_deliveries
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($4::uuid IS NULL OR endpoint_id = $4)
    AND (
        $5::uuid IS NULL
        OR event_id = $5 AND (
            replay_no > 0 OR $12::timestamptz IS NULL
            OR id >= "webhook".first_id($12 - interval '1 hour') AND id < "webhook".first_id($12 + interval '1 hour')
        )
    )
    AND ($6::text IS NULL OR event_type = $6)
    AND ($7::text IS NULL OR status = $7)
    AND ($8::text[] IS NULL OR last_error = ANY ($8))
    AND ($9::timestamptz IS NULL OR created_at >= $9)
    AND ($10::timestamptz IS NULL OR created_at < $10 AND id < "webhook".first_id($10 + interval '1 hour'))
    AND ($11::text IS NULL OR cause = $11)
    AND ($13::uuid IS NULL OR id >= $13)
ORDER BY id DESC LIMIT $3::bigint
