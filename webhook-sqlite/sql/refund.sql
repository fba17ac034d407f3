-- Gives a turn of its rate back to a lane.
UPDATE webhook_lanes
SET arrival = max(0, arrival - (
    SELECT rate_per / rate_limit FROM webhook_endpoints WHERE id = ?1
))
WHERE endpoint_id = ?1 AND (SELECT rate_limit FROM webhook_endpoints WHERE id = ?1) IS NOT NULL
