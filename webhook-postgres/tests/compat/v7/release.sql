-- Ends a hold, and a probe. $1 lane.
UPDATE "webhook".lane_state SET held_until = '-infinity', is_probed = false, version = version + 1
WHERE endpoint_id = $1::uuid AND (held_until > '-infinity' OR is_probed)
