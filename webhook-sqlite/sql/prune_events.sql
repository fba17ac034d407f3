WITH pruned (id) AS (VALUES (?))
DELETE FROM webhook_events WHERE id IN (SELECT id FROM pruned)
