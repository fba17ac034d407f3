-- Deletes what ended too long ago and is in the default partitions, and what nobody needs: old idempotency keys, and
-- lanes without limits whose hold is over. Bounded.
-- $1 now or null, $2 how long to keep what has ended, in µs, $3 the most rows of each kind.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
kept AS MATERIALIZED (
    SELECT now - $2::bigint * interval '1 microsecond' AS start FROM clock
),
keys AS (
    DELETE FROM webhook.idempotency_keys
    WHERE (tenant, key) IN (
        SELECT tenant, key FROM webhook.idempotency_keys
        WHERE expires_at <= (SELECT now FROM clock)
        ORDER BY expires_at LIMIT $3::bigint
        FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
),
-- Of days without partitions: none were made, or they were dropped and some of their rows moved here.
attempts AS (
    DELETE FROM webhook.attempts_default
    WHERE (delivery_id, number) IN (
        SELECT delivery_id, number FROM webhook.attempts_default
        WHERE delivery_id < webhook.first_id((SELECT start FROM kept))
            AND NOT EXISTS (SELECT FROM webhook.deliveries WHERE id = delivery_id)
            AND NOT EXISTS (
                SELECT FROM webhook.deliveries_history_default AS delivery
                WHERE delivery.id = delivery_id AND delivery.updated_at >= (SELECT start FROM kept)
            )
        LIMIT $3::bigint
    )
    RETURNING 1
),
history AS (
    DELETE FROM webhook.deliveries_history_default
    WHERE id IN (
        SELECT id FROM webhook.deliveries_history_default
        WHERE id < webhook.first_id((SELECT start FROM kept)) AND updated_at < (SELECT start FROM kept)
        LIMIT $3::bigint
    )
    RETURNING 1
),
-- Not one by one: few of those that are left need a look into the history, for which `OFFSET 0` keeps to its indexes.
ended_events AS MATERIALIZED (
    SELECT id, created_at FROM webhook.events_default AS event
    WHERE id < webhook.first_id((SELECT start FROM kept))
        AND NOT EXISTS (SELECT FROM webhook.deliveries WHERE event_id = event.id)
),
events AS (
    DELETE FROM webhook.events_default
    WHERE id IN (
        SELECT id FROM ended_events AS event
        -- Its deliveries' ids begin with the same time; those of replays do not.
        WHERE NOT EXISTS (
                SELECT FROM webhook.deliveries_history AS delivery
                WHERE delivery.id >= webhook.first_id(event.created_at)
                    AND delivery.id < webhook.first_id(event.created_at + interval '1 ms')
                    AND delivery.event_id = event.id AND delivery.updated_at >= (SELECT start FROM kept)
                OFFSET 0
            )
            AND NOT EXISTS (
                SELECT FROM webhook.deliveries_history AS delivery
                WHERE delivery.event_id = event.id AND delivery.replay_no > 0
                    AND delivery.updated_at >= (SELECT start FROM kept)
                OFFSET 0
            )
        LIMIT $3::bigint
    )
    RETURNING 1
),
lanes AS (
    DELETE FROM webhook.lane_state
    WHERE max_in_flight IS NULL AND rate_limit IS NULL AND NOT ordered
        AND held_until <= (SELECT now FROM clock)
        -- Until its breaker closes.
        AND NOT (is_probed AND EXISTS (SELECT FROM webhook.endpoints WHERE id = endpoint_id))
),
-- What an older version leaves behind when it deletes an endpoint.
health AS (
    DELETE FROM webhook.endpoint_health
    WHERE NOT EXISTS (SELECT FROM webhook.endpoints WHERE id = endpoint_id)
)
SELECT
    -- Of the kind of which there were most: if these are $3 there may be more.
    greatest(
        (SELECT count(*) FROM keys), (SELECT count(*) FROM attempts),
        (SELECT count(*) FROM history), (SELECT count(*) FROM events)
    ) AS deleted
