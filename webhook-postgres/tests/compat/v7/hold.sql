-- Keeps a lane back. A shorter hold does not end a longer one, nor one without a probe another's.
-- $1 now or null, $2 lane, $3 how long in µs, $4 whether it has one job at a time then.
INSERT INTO "webhook".lane_state AS state (endpoint_id, held_until, is_probed)
VALUES ($2::uuid, coalesce($1::timestamptz, now()) + $3::bigint * interval '1 microsecond', $4::boolean)
ON CONFLICT (endpoint_id) DO UPDATE SET
    held_until = greatest(state.held_until, excluded.held_until),
    is_probed = state.is_probed OR excluded.is_probed, version = state.version + 1
