-- What was spent at another rate does not keep the lane back longer than one turn of the new, until ?2.
UPDATE webhook_lanes
SET
    arrival = CASE
        WHEN (SELECT rate_limit IS ?3 AND rate_per IS ?4 FROM webhook_endpoints WHERE id = ?1) THEN arrival
        ELSE min(arrival, ?2)
    END,
    state = 'ready',
    wake_at = NULL
WHERE endpoint_id = ?1
