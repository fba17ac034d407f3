-- Those of these events that are stored already. They may have ended, and must not fan out again.
WITH wanted (id) AS (VALUES (?))
SELECT event.id FROM wanted CROSS JOIN webhook_events AS event ON event.id = wanted.id
