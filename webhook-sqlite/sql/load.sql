WITH wanted (id) AS (VALUES (?))
SELECT
    delivery.id, delivery.status, delivery.fence, delivery.first_due, delivery.attempts, delivery.excused,
    -- As long as another's lease runs, that one is believed.
    coalesce(delivery.lease_until, delivery.due) AS wanted_at,
    delivery.event_id, delivery.endpoint_id, endpoint.version,
    health.failing_since, health.notified_at, health.trips, health.opened_at, health.open_until,
    -- Who comes first in an ordered lane.
    CASE WHEN endpoint.ordered THEN (
        SELECT head.id
        FROM webhook_deliveries AS head
        WHERE head.sequence = (
            SELECT min(first.sequence)
            FROM (
                SELECT min(sequence) AS sequence
                FROM webhook_deliveries
                WHERE endpoint_id = delivery.endpoint_id AND leased = 0 AND place = 0
                UNION ALL
                SELECT min(sequence)
                FROM webhook_deliveries
                WHERE endpoint_id = delivery.endpoint_id AND leased = 1 AND place = 0
            ) AS first
        )
    ) END AS head
FROM wanted
CROSS JOIN webhook_deliveries AS delivery ON delivery.id = wanted.id
LEFT JOIN webhook_endpoints AS endpoint ON endpoint.id = delivery.endpoint_id
LEFT JOIN webhook_endpoint_health AS health ON health.endpoint_id = delivery.endpoint_id
