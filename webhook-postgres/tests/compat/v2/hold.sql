-- Keeps a lane back. A shorter hold does not end a longer one.
-- $1 now or null, $2 lane, $3 how long in µs.
INSERT INTO "webhook".lane_state AS state (endpoint_id, held_until)
VALUES ($2::uuid, coalesce($1::timestamptz, now()) + $3::bigint * interval '1 microsecond')
ON CONFLICT (endpoint_id) DO UPDATE SET
    held_until = greatest(state.held_until, excluded.held_until), version = state.version + 1
