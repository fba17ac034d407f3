WITH ended (id) AS (VALUES (?))
DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM ended)
