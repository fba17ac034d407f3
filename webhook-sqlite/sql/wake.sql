-- These lanes may be eligible now.
WITH woken (endpoint_id) AS (VALUES (?))
UPDATE webhook_lanes
SET state = 'ready', wake_at = NULL, turn = max(turn, ?)
WHERE endpoint_id IN (SELECT endpoint_id FROM woken) AND state <> 'ready'
