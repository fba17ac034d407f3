-- Makes room for the days ahead, drops what ended too long ago, and forgets what nobody needs: old
-- idempotency keys, and lanes without limits whose hold is over. Bounded.
-- $1 now or null, $2 for how many days to make room, $3 how long to keep what has ended, in µs,
-- $4 how long a key stands, in µs, $5 the most rows of each kind.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
keys AS (
    DELETE FROM webhook.idempotency_keys
    WHERE (tenant, key) IN (
        SELECT tenant, key FROM webhook.idempotency_keys
        WHERE created_at + $4::bigint * interval '1 microsecond' <= (SELECT now FROM clock)
        ORDER BY created_at LIMIT $5::bigint
        FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
),
lanes AS (
    DELETE FROM webhook.lane_state
    WHERE max_in_flight IS NULL AND rate_limit IS NULL AND NOT ordered
        AND held_until <= (SELECT now FROM clock)
    RETURNING 1
)
SELECT webhook.make_partitions(clock.now, $2::integer) AS made,
    webhook.drop_partitions(clock.now - $3::bigint * interval '1 microsecond') AS dropped,
    (SELECT count(*) FROM keys) AS keys,
    (SELECT count(*) FROM lanes) AS lanes
FROM clock
