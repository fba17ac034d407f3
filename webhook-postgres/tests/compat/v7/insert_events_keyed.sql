-- As `insert_events`, of events some of which have idempotency keys, or may be there already: these stay as they are.
-- Answers each event's place with what its key stands for.
-- $1 to $8 as there; $9 key or null, $10 fingerprint or null, $11 how long it stands, in µs, or null,
-- $12 traceparent or null; $13 how long it waits for other transactions, as `lock_timeout` has it, or null for as
-- long as they take. That is set for the transaction: not for a host's.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now,
        CASE WHEN $13::text IS NOT NULL THEN set_config('lock_timeout', $13::text, true) END AS patience
),
input AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[],
        $8::bytea[], $9::text[], $10::bytea[], $11::bigint[], $12::text[]
    ) WITH ORDINALITY AS input (
        id, tenant, event_type, body, created_at, deliver_at, prefix, key, fingerprint, stands, traceparent, place
    )
),
-- `DO UPDATE`, because `DO NOTHING` would not answer the row of whoever was faster. In the order of the
-- keys, so that two inserts never wait for each other.
known AS (
    INSERT INTO "webhook".idempotency_keys AS held (tenant, key, event_id, fingerprint, expires_at)
    SELECT first.tenant, first.key, first.id, first.fingerprint,
        (SELECT now FROM clock) + first.stands * interval '1 microsecond'
    FROM (
        SELECT DISTINCT ON (tenant, key) tenant, key, id, fingerprint, stands
        FROM input
        WHERE key IS NOT NULL
        ORDER BY tenant, key, place
    ) AS first
    ORDER BY first.tenant, first.key
    ON CONFLICT (tenant, key) DO UPDATE SET
        (event_id, fingerprint, expires_at) = (
            SELECT choice.event_id, choice.fingerprint, choice.expires_at
            FROM (
                VALUES (true, excluded.event_id, excluded.fingerprint, excluded.expires_at),
                    (false, held.event_id, held.fingerprint, held.expires_at)
            ) AS choice (is_new, event_id, fingerprint, expires_at)
            WHERE choice.is_new = (
                held.expires_at <= (SELECT now FROM clock) OR "webhook".is_erased(held.tenant, held.event_id)
            )
        )
    RETURNING tenant, key, event_id, fingerprint
),
judged AS MATERIALIZED (
    SELECT input.place, input.id, coalesce(known.event_id, input.id) AS event_id,
        coalesce(known.fingerprint = input.fingerprint, true) AS same
    FROM input
    LEFT JOIN known ON known.tenant = input.tenant AND known.key = input.key
),
stored AS (
    INSERT INTO "webhook".events (id, tenant, event_type, body, created_at, deliver_at, traceparent)
    SELECT input.id, input.tenant, input.event_type, input.body, input.created_at, input.deliver_at,
        input.traceparent
    FROM input
    JOIN judged ON judged.place = input.place AND judged.event_id = input.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id
),
-- Whatever comes after its tenant was erased stays. The ids of its deliveries begin with when it was made.
spared AS (
    INSERT INTO "webhook".spared (tenant, event_id)
    SELECT input.tenant, input.id
    FROM stored
    JOIN input ON input.id = stored.id
    JOIN "webhook".erasures AS erasure ON erasure.tenant = input.tenant
        AND least(input.id, "webhook".first_id(input.created_at)) <= erasure.up_to
    WHERE EXISTS (SELECT FROM "webhook".erasures)
    ON CONFLICT DO NOTHING
),
-- Of new events only: what has ended is no longer among the deliveries, and must not come back.
taken AS MATERIALIZED (
    SELECT input.place, input.id AS event_id, input.prefix, endpoint.id AS endpoint_id,
        input.tenant, input.event_type,
        greatest(input.deliver_at, (SELECT now FROM clock)) AS due_at,
        lane.max_in_flight, lane.rate_limit, lane.rate_per, coalesce(lane.ordered, false) AS ordered
    FROM stored
    JOIN input ON input.id = stored.id
    JOIN "webhook".endpoints AS endpoint
        ON endpoint.tenant = input.tenant AND endpoint.state <> 'disabled'
        AND (
            cardinality(endpoint.exact_types) + cardinality(endpoint.type_prefixes) = 0
            OR input.event_type = ANY (endpoint.exact_types)
            OR EXISTS (
                SELECT FROM unnest(endpoint.type_prefixes) AS prefix
                WHERE starts_with(input.event_type, prefix)
                    AND octet_length(input.event_type) > octet_length(prefix)
            )
        )
    LEFT JOIN "webhook".lane_state AS lane ON lane.endpoint_id = endpoint.id
    ORDER BY input.place
),
made AS MATERIALIZED (
    SELECT taken.*, nextval('"webhook".delivery_sequence') AS sequence,
        encode(
            taken.prefix || set_byte(
                set_byte(hash.tail, 0, (get_byte(hash.tail, 0) & 15) | 112),
                2, (get_byte(hash.tail, 2) & 63) | 128
            ),
            'hex'
        )::uuid AS id
    FROM taken
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
        id, event_id, endpoint_id, replay_no, tenant, event_type, ready, due_at, first_due,
        sequence, capped, ordered, created_at, updated_at
    )
    SELECT id, event_id, endpoint_id, 0, tenant, event_type, due_at <= clock.now, due_at, due_at,
        sequence, max_in_flight IS NOT NULL, ordered, clock.now, clock.now
    FROM made, clock
)
SELECT judged.place, judged.event_id, judged.same, made.id, made.endpoint_id, made.tenant,
    made.due_at, 0::bigint AS fence, made.sequence, made.max_in_flight, made.rate_limit, made.rate_per,
    made.ordered
FROM judged
LEFT JOIN made ON made.place = judged.place
ORDER BY judged.place
