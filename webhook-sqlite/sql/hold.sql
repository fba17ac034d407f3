-- Lets nothing of these lanes be claimed before a time, or before an earlier hold ends if that is later, and one job at a time then,
-- if it is to be probed.
WITH hold (endpoint_id, until, is_probed) AS (VALUES (?, ?, ?))
UPDATE webhook_lanes
SET
    held_until = max(held_until, (SELECT max(until) FROM hold WHERE hold.endpoint_id = webhook_lanes.endpoint_id)),
    is_probed = max(is_probed, (SELECT max(is_probed) FROM hold WHERE hold.endpoint_id = webhook_lanes.endpoint_id))
WHERE endpoint_id IN (SELECT endpoint_id FROM hold)
