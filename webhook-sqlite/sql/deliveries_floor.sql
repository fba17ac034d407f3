SELECT id
FROM webhook_all_deliveries
WHERE TRUE
