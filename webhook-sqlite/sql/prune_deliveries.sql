WITH pruned (event_id) AS (VALUES (?))
DELETE FROM webhook_deliveries_history WHERE event_id IN (SELECT event_id FROM pruned)
