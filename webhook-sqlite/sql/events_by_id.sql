WITH wanted (id) AS (VALUES (?))
SELECT
    event.id, event.tenant, event.event_type, event.body, event.created_at, event.deliver_at,
    event.idempotency_key, event.fingerprint, event.traceparent
FROM wanted
CROSS JOIN webhook_events AS event ON event.id = wanted.id
