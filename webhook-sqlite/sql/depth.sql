-- Counts what waits, as far as the first ?2 rows tell, and finds the oldest among the heads of as many lanes: its
-- cost follows neither the backlog nor what is parked.
WITH
job (leased, due, endpoint_id) AS MATERIALIZED (
    SELECT leased, due, endpoint_id FROM webhook_deliveries ORDER BY sequence LIMIT +?2
),
lane (endpoint_id) AS MATERIALIZED (
    SELECT * FROM (SELECT endpoint_id FROM webhook_lanes WHERE state = 'ready' ORDER BY tenant, turn LIMIT +?2)
    UNION ALL
    SELECT * FROM (SELECT endpoint_id FROM webhook_lanes WHERE state = 'waiting' ORDER BY wake_at LIMIT +?2)
),
head (due, endpoint_id) AS MATERIALIZED (
    SELECT (
        SELECT own.due
        FROM webhook_deliveries AS own
        WHERE own.endpoint_id = lane.endpoint_id AND own.leased = 0
        ORDER BY own.place, own.sequence
        LIMIT 1
    ), endpoint_id
    FROM lane
)
SELECT
    (SELECT count(*) FROM job WHERE leased = 0 AND due <= ?1) AS ready,
    (SELECT count(*) FROM job WHERE leased = 0 AND due > ?1) AS parked,
    (SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE leased = 1 LIMIT +?2)) AS leased,
    -- Of lanes that are not held.
    (
        SELECT min(due)
        FROM (SELECT due, endpoint_id FROM job WHERE leased = 0 UNION ALL SELECT due, endpoint_id FROM head) AS waiting
        WHERE NOT EXISTS (
            SELECT 1 FROM webhook_lanes AS lane WHERE lane.endpoint_id = waiting.endpoint_id AND lane.held_until > ?1
        )
    ) AS oldest_due
