-- Ends a hold. $1 lane.
UPDATE "webhook".lane_state SET held_until = '-infinity', version = version + 1
WHERE endpoint_id = $1::uuid AND held_until > '-infinity'
