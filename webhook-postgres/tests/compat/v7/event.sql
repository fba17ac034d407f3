-- One event. $1 its id, $2 tenant or null for all.
SELECT event.id, event.tenant, event.event_type, event.body, event.created_at, event.deliver_at,
    event.traceparent
FROM "webhook".events AS event
WHERE event.id = $1::uuid AND ($2::text IS NULL OR event.tenant = $2)
