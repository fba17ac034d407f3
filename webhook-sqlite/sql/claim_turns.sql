-- Puts lanes where a claim found that they belong.
WITH seen (endpoint_id, state, turn, wake_at, arrival) AS (VALUES (?, ?, ?, ?, ?))
UPDATE webhook_lanes
SET state = seen.state, turn = seen.turn, wake_at = seen.wake_at, arrival = seen.arrival
FROM seen
WHERE webhook_lanes.endpoint_id = seen.endpoint_id
