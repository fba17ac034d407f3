-- A lease of these lanes has ended: those that were at their cap may be eligible now.
WITH woken (endpoint_id) AS (VALUES (?))
UPDATE webhook_lanes
SET state = 'ready', wake_at = NULL, turn = max(turn, ?)
WHERE endpoint_id IN (SELECT endpoint_id FROM woken) AND state = 'full'
