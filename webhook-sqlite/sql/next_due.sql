SELECT min(at) AS at
FROM (
    SELECT min(wake_at) AS at FROM webhook_lanes WHERE state = 'waiting'
    UNION ALL
    SELECT min(lease_until) FROM webhook_deliveries WHERE leased = 1
)
