SELECT id
FROM webhook_events
WHERE TRUE
