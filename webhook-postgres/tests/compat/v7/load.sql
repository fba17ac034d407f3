-- Reads what the attempts of these claims need, and takes over those that an index queue claimed.
-- $1 now or null, then arrays of one element a claim: $2 delivery, $3 fence, $4 end of the lease.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
input AS MATERIALIZED (
    SELECT *
    FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[])
        WITH ORDINALITY AS input (id, fence, until, place)
),
begun AS (
    UPDATE "webhook".deliveries AS delivery
    SET status = 'in_progress', ready = false, fence = input.fence, due_at = input.until,
        updated_at = clock.now
    FROM input, clock
    WHERE delivery.id = input.id AND delivery.fence < input.fence
        -- Of one in progress that is the end of its lease: as long as it runs, its owner is believed.
        AND delivery.due_at <= clock.now
        -- Whoever waits for another's end in an ordered lane.
        AND NOT (delivery.ordered AND EXISTS (
            SELECT FROM "webhook".deliveries AS earlier
            WHERE earlier.ordered AND earlier.endpoint_id = delivery.endpoint_id
                AND earlier.sequence < delivery.sequence
        ))
        -- Whose endpoint's breaker is open.
        AND NOT EXISTS (
            SELECT FROM "webhook".endpoint_health AS health
            WHERE health.endpoint_id = delivery.endpoint_id AND health.open_until > clock.now
        )
    RETURNING delivery.id
)
SELECT input.place, delivery.id AS delivery_id, delivery.fence,
    -- Not due: as before this statement, and not taken over by it.
    delivery.fence < input.fence AND begun.id IS NULL AS is_early,
    CASE WHEN delivery.ordered AND delivery.fence < input.fence AND begun.id IS NULL THEN (
        SELECT earlier.id FROM "webhook".deliveries AS earlier
        WHERE earlier.ordered AND earlier.endpoint_id = delivery.endpoint_id
            AND earlier.sequence < delivery.sequence
        ORDER BY earlier.sequence LIMIT 1
    ) END AS behind,
    greatest(extract(epoch FROM delivery.due_at - clock.now) * 1000000, 0)::bigint AS early_by,
    greatest(extract(epoch FROM health.open_until - clock.now) * 1000000, 0)::bigint AS held_by,
    health.failing_since, health.notified_at, health.trips, health.opened_at, health.open_until, clock.now,
    delivery.attempts, delivery.excused, delivery.first_due,
    delivery.endpoint_id, endpoint.version AS endpoint_version, event.id AS event_id,
    event.tenant, event.event_type, event.body, event.created_at, event.deliver_at, event.traceparent
FROM input
CROSS JOIN clock
LEFT JOIN "webhook".deliveries AS delivery ON delivery.id = input.id
LEFT JOIN begun ON begun.id = input.id
LEFT JOIN "webhook".events AS event ON event.id = delivery.event_id
LEFT JOIN "webhook".endpoints AS endpoint ON endpoint.id = delivery.endpoint_id
LEFT JOIN "webhook".endpoint_health AS health ON health.endpoint_id = delivery.endpoint_id
ORDER BY input.place
