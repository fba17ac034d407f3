-- For each endpoint that an event was sent to: the last replay, and whether a delivery is live.
SELECT endpoint_id, max(replay_no) AS replay_no, max(status IN ('pending', 'in_progress')) AS live
FROM webhook_all_deliveries
WHERE event_id = ?1
GROUP BY endpoint_id
