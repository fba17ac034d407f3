-- Stores events without idempotency keys, and a delivery for each endpoint that accepts them. Fails if one is there
-- already: `insert_events_keyed` leaves those out, which costs more.
-- $1 now or null, then arrays of one element an event: $2 id, $3 tenant, $4 event_type, $5 body,
-- $6 created_at, $7 deliver_at or null, $8 the first six bytes of its deliveries' ids; then what is claimed at
-- once: $9 endpoints, $10 their versions, $11 how many deliveries of each, $12 the length of the leases in µs;
-- $13 traceparent of each event or null.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
input AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[],
        $8::bytea[], $13::text[]
    ) WITH ORDINALITY AS input (
        id, tenant, event_type, body, created_at, deliver_at, prefix, traceparent, place
    )
),
stored AS (
    INSERT INTO "webhook".events (id, tenant, event_type, body, created_at, deliver_at, traceparent)
    SELECT id, tenant, event_type, body, created_at, deliver_at, traceparent
    FROM input
),
-- Whatever comes after its tenant was erased stays. The ids of its deliveries begin with when it was made.
spared AS (
    INSERT INTO "webhook".spared (tenant, event_id)
    SELECT input.tenant, input.id
    FROM input
    JOIN "webhook".erasures AS erasure ON erasure.tenant = input.tenant
        AND least(input.id, "webhook".first_id(input.created_at)) <= erasure.up_to
    -- Asked once, so that where nothing was ever erased no row is compared.
    WHERE EXISTS (SELECT FROM "webhook".erasures)
    ON CONFLICT DO NOTHING
),
-- Looked up once for all events of a tenant and type.
accepting AS MATERIALIZED (
    SELECT kind.tenant, kind.event_type, endpoint.id AS endpoint_id,
        lane.max_in_flight, lane.rate_limit, lane.rate_per, coalesce(lane.ordered, false) AS ordered,
        wanted.room
    FROM (SELECT DISTINCT tenant, event_type FROM input) AS kind
    JOIN "webhook".endpoints AS endpoint
        ON endpoint.tenant = kind.tenant AND endpoint.state <> 'disabled'
        AND (
            cardinality(endpoint.exact_types) + cardinality(endpoint.type_prefixes) = 0
            OR kind.event_type = ANY (endpoint.exact_types)
            OR EXISTS (
                SELECT FROM unnest(endpoint.type_prefixes) AS prefix
                WHERE starts_with(kind.event_type, prefix)
                    AND octet_length(kind.event_type) > octet_length(prefix)
            )
        )
    LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = endpoint.id
    LEFT JOIN unnest($9::uuid[], $10::bigint[], $11::bigint[]) AS wanted (endpoint_id, version, room)
        ON wanted.endpoint_id = endpoint.id AND wanted.version = endpoint.version
        AND endpoint.state = 'enabled' AND coalesce(lane.held_until, '-infinity') <= (SELECT now FROM clock)
        AND lane.max_in_flight IS NULL AND lane.rate_limit IS NULL AND lane.ordered IS NOT true
        AND lane.is_probed IS NOT true
        AND NOT EXISTS (
            SELECT FROM "webhook".endpoint_health AS health WHERE health.endpoint_id = endpoint.id
        )
),
made AS MATERIALIZED (
    SELECT taken.*, nextval('"webhook".delivery_sequence') AS sequence,
        taken.due_at <= (SELECT now FROM clock) AS is_due,
        taken.due_at <= (SELECT now FROM clock)
            AND row_number() OVER (PARTITION BY taken.endpoint_id ORDER BY taken.place) <= taken.room
            IS true AS is_claimed,
        encode(
            taken.prefix || set_byte(
                set_byte(hash.tail, 0, (get_byte(hash.tail, 0) & 15) | 112),
                2, (get_byte(hash.tail, 2) & 63) | 128
            ),
            'hex'
        )::uuid AS id
    FROM (
        SELECT input.place, input.id AS event_id, input.prefix, input.tenant, input.event_type,
            greatest(input.deliver_at, (SELECT now FROM clock)) AS due_at, accepting.endpoint_id,
            accepting.max_in_flight, accepting.rate_limit, accepting.rate_per, accepting.ordered, accepting.room
        FROM input
        JOIN accepting ON accepting.tenant = input.tenant AND accepting.event_type = input.event_type
        -- An endpoint's deliveries are numbered in the order of their events.
        ORDER BY accepting.endpoint_id, input.place
    ) AS taken
    CROSS JOIN LATERAL (
        SELECT substring(
            sha256(uuid_send(taken.event_id) || uuid_send(taken.endpoint_id) || int4send(0))
            FROM 7 FOR 10
        ) AS tail
        OFFSET 0
    ) AS hash
),
queued AS (
    INSERT INTO "webhook".deliveries (
        id, event_id, endpoint_id, replay_no, tenant, event_type, status, ready, due_at, first_due,
        fence, sequence, capped, ordered, created_at, updated_at
    )
    SELECT id, event_id, endpoint_id, 0, tenant, event_type,
        CASE WHEN is_claimed THEN 'in_progress' ELSE 'pending' END, is_due AND NOT is_claimed,
        CASE WHEN is_claimed THEN clock.now + $12::bigint * interval '1 microsecond' ELSE due_at END, due_at,
        is_claimed::integer, sequence, max_in_flight IS NOT NULL, ordered, clock.now, clock.now
    FROM made, clock
)
SELECT id, endpoint_id, tenant, due_at, 0::bigint AS fence, sequence, max_in_flight, rate_limit,
    rate_per, ordered,
    CASE WHEN is_claimed THEN place END AS claimed,
    clock.now + $12::bigint * interval '1 microsecond' AS until
FROM made, clock
