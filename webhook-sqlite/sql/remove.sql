WITH ended (sequence) AS (VALUES (?))
DELETE FROM webhook_deliveries WHERE sequence IN (SELECT sequence FROM ended)
