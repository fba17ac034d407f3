-- The lanes whose time has come may be eligible now, as many as a claim looks at.
UPDATE webhook_lanes
SET state = 'ready', wake_at = NULL, turn = max(turn, ?1)
WHERE endpoint_id IN (
    SELECT endpoint_id FROM webhook_lanes WHERE state = 'waiting' AND wake_at <= ?1 ORDER BY wake_at LIMIT +?2
)
