-- Counts what waits, as far as the first ?2 rows tell, and finds the oldest among the heads of as many lanes: its
-- cost follows neither the backlog nor what is parked.
WITH
job (leased, due) AS MATERIALIZED (
    SELECT leased, due FROM webhook_deliveries ORDER BY sequence LIMIT +?2
),
lane (endpoint_id) AS MATERIALIZED (
    SELECT * FROM (SELECT endpoint_id FROM webhook_lanes WHERE state = 'ready' ORDER BY tenant, turn LIMIT +?2)
    UNION ALL
    SELECT * FROM (SELECT endpoint_id FROM webhook_lanes WHERE state = 'waiting' ORDER BY wake_at LIMIT +?2)
),
head (due) AS MATERIALIZED (
    SELECT (
        SELECT own.due
        FROM webhook_deliveries AS own
        WHERE own.endpoint_id = lane.endpoint_id AND own.leased = 0
        ORDER BY own.place, own.sequence
        LIMIT 1
    )
    FROM lane
)
SELECT
    (SELECT count(*) FROM job WHERE leased = 0 AND due <= ?1) AS ready,
    (SELECT count(*) FROM job WHERE leased = 0 AND due > ?1) AS parked,
    (SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE leased = 1 LIMIT +?2)) AS leased,
    (
        SELECT min(due)
        FROM (SELECT due FROM job WHERE leased = 0 UNION ALL SELECT due FROM head)
    ) AS oldest_due
