-- Counts what waits, as far as the first ?2 rows tell, and finds the lane that waits longest among as many: its
-- cost follows neither the backlog nor what is parked.
WITH
job (leased, due, endpoint_id) AS MATERIALIZED (
    SELECT leased, due, endpoint_id FROM webhook_deliveries ORDER BY sequence LIMIT +?2
),
lane AS MATERIALIZED (
    SELECT * FROM (SELECT * FROM webhook_lanes WHERE state = 'ready' ORDER BY tenant, turn LIMIT +?2)
    UNION ALL
    SELECT * FROM (SELECT * FROM webhook_lanes WHERE state = 'waiting' ORDER BY wake_at LIMIT +?2)
),
-- When a claim that looks at it would find it eligible: `Lane::standing`.
eligible (at) AS MATERIALIZED (
    SELECT CASE
        WHEN lane.state = 'waiting' THEN lane.wake_at
        WHEN (
            SELECT count(*) FROM webhook_deliveries AS running
            WHERE running.endpoint_id = lane.endpoint_id AND running.leased = 1
        ) < CASE WHEN lane.is_probed THEN 1 ELSE endpoint.max_in_flight END
            THEN max(
                lane.held_until,
                coalesce(
                    lane.arrival - endpoint.rate_per / endpoint.rate_limit * (max(endpoint.rate_limit / 10, 1) - 1), 0
                ),
                (
                    SELECT own.due
                    FROM webhook_deliveries AS own
                    WHERE own.endpoint_id = lane.endpoint_id AND own.leased = 0
                    ORDER BY own.place, own.sequence
                    LIMIT 1
                )
            )
    END
    FROM lane
    JOIN webhook_endpoints AS endpoint ON endpoint.id = lane.endpoint_id
)
SELECT
    (SELECT count(*) FROM job WHERE leased = 0 AND due <= ?1) AS ready,
    (SELECT count(*) FROM job WHERE leased = 0 AND due > ?1) AS parked,
    (SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE leased = 1 LIMIT +?2)) AS leased,
    (SELECT min(at) FROM eligible) AS oldest_due
