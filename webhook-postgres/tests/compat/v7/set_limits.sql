-- Sets how a lane is scheduled. What was spent at another rate does not keep it back for longer than one
-- turn of the new.
-- $1 lane, $2 max_in_flight or null, $3 rate_limit or null, $4 rate_per in µs or null, $5 ordered, $6 now.
INSERT INTO "webhook".lane_state AS state (endpoint_id, max_in_flight, rate_limit, rate_per, ordered)
VALUES ($1::uuid, $2::integer, $3::integer, $4::bigint, $5::boolean)
ON CONFLICT (endpoint_id) DO UPDATE SET
    max_in_flight = excluded.max_in_flight, rate_limit = excluded.rate_limit,
    rate_per = excluded.rate_per, ordered = excluded.ordered, version = state.version + 1,
    arrival = CASE
        WHEN (state.rate_limit, state.rate_per)
            IS NOT DISTINCT FROM (excluded.rate_limit, excluded.rate_per) THEN state.arrival
        ELSE least(
            state.arrival,
            $6::timestamptz + coalesce(excluded.rate_per / excluded.rate_limit, 0)
                * interval '1 microsecond'
        )
    END
