-- Lets nothing of these lanes be claimed before a time, or before an earlier hold ends if that is later.
WITH hold (endpoint_id, until) AS (VALUES (?, ?))
UPDATE webhook_lanes
SET held_until = max(held_until, (SELECT max(until) FROM hold WHERE hold.endpoint_id = webhook_lanes.endpoint_id))
WHERE endpoint_id IN (SELECT endpoint_id FROM hold)
