-- The tables of the store. `webhook` stands for the schema that the host chose.

CREATE TABLE webhook.endpoints (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    url text NOT NULL,
    -- JSON without anything secret.
    settings text NOT NULL,
    -- Signing secrets and secret headers; opaque.
    secrets bytea NOT NULL,
    -- What the settings say of event types, for the fan-out: both empty means all.
    exact_types text[] NOT NULL,
    type_prefixes text[] NOT NULL,
    state text NOT NULL CHECK (state IN ('enabled', 'paused', 'disabled')),
    state_reason text,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX endpoints_tenant ON webhook.endpoints (tenant, id);

-- Partitioned by id, whose first bytes are the time: what ends a partition is a time.
CREATE TABLE webhook.events (
    id uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    event_type text NOT NULL,
    -- The bytes that are signed and sent. No SQL looks into them.
    body bytea NOT NULL,
    created_at timestamptz NOT NULL,
    deliver_at timestamptz,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX events_tenant ON webhook.events (tenant, id);
CREATE TABLE webhook.events_default PARTITION OF webhook.events DEFAULT;

-- No two events of a tenant have one key before it expires.
CREATE TABLE webhook.idempotency_keys (
    tenant text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_age ON webhook.idempotency_keys (expires_at);

-- The unfinished ones: this is the queue. What has ended moves to the history.
CREATE TABLE webhook.deliveries (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    replay_no integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    event_type text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'in_progress')),
    attempts integer NOT NULL DEFAULT 0,
    -- How many of the attempts failed through us: they do not count against the schedule.
    excused integer NOT NULL DEFAULT 0,
    -- May be claimed now. If not, `due_at` says when it may.
    ready boolean NOT NULL,
    -- Of a pending delivery: when it is due. Of one in progress: when its lease ends.
    due_at timestamptz NOT NULL,
    first_due timestamptz NOT NULL,
    last_error text,
    fence bigint NOT NULL DEFAULT 0,
    -- The order of acceptance.
    sequence bigint NOT NULL,
    -- Its lane has a cap, or is ordered.
    capped boolean NOT NULL,
    ordered boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 1
);
CREATE INDEX deliveries_ready ON webhook.deliveries (tenant, endpoint_id, due_at) WHERE ready;
CREATE INDEX deliveries_waiting ON webhook.deliveries (due_at) WHERE NOT ready;
CREATE INDEX deliveries_capped ON webhook.deliveries (endpoint_id)
    WHERE capped AND status = 'in_progress';
CREATE INDEX deliveries_ordered ON webhook.deliveries (endpoint_id, sequence) WHERE ordered;
CREATE INDEX deliveries_replays ON webhook.deliveries (event_id) WHERE replay_no > 0;
CREATE SEQUENCE webhook.delivery_sequence;

CREATE TABLE webhook.deliveries_history (
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    replay_no integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    event_type text NOT NULL,
    status text NOT NULL CHECK (status IN ('succeeded', 'failed', 'cancelled')),
    end_reason text,
    attempts integer NOT NULL,
    last_error text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX deliveries_history_endpoint ON webhook.deliveries_history (endpoint_id, id);
CREATE INDEX deliveries_history_tenant ON webhook.deliveries_history (tenant, id);
CREATE INDEX deliveries_history_replays ON webhook.deliveries_history (event_id)
    WHERE replay_no > 0;
CREATE INDEX deliveries_history_failed ON webhook.deliveries_history (id) WHERE status = 'failed';
-- Whether something of a day has ended lately: a few pages for each look, and next to nothing for each row.
CREATE INDEX deliveries_history_ended ON webhook.deliveries_history
    USING brin (updated_at) WITH (autosummarize = on);
CREATE TABLE webhook.deliveries_history_default PARTITION OF webhook.deliveries_history DEFAULT;

-- Append-only.
CREATE TABLE webhook.attempts (
    delivery_id uuid NOT NULL,
    number integer NOT NULL,
    started_at timestamptz NOT NULL,
    -- In µs.
    duration bigint NOT NULL,
    first_byte bigint,
    request_headers bytea NOT NULL,
    status smallint,
    error_kind text,
    response_headers bytea,
    response_body bytea,
    truncated boolean NOT NULL,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);
CREATE TABLE webhook.attempts_default PARTITION OF webhook.attempts DEFAULT;

-- Only of lanes that are limited, ordered or held.
CREATE TABLE webhook.lane_state (
    endpoint_id uuid PRIMARY KEY,
    max_in_flight integer,
    -- At most so many jobs in so many µs.
    rate_limit integer,
    rate_per bigint,
    ordered boolean NOT NULL DEFAULT false,
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    -- When the next job would arrive at the full rate.
    arrival timestamptz NOT NULL DEFAULT '-infinity',
    -- Grows with each claim, so that a claim knows whether another was faster.
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- What processes have counted, a row for each minute, process and endpoint; older ones are merged to longer
-- steps. `counts` holds sums and histograms, and is opaque.
CREATE TABLE webhook.stats (
    at timestamptz NOT NULL,
    -- How long the step is that begins there, in seconds.
    step integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    endpoint_id uuid,
    counts bytea NOT NULL
);
CREATE INDEX stats_step ON webhook.stats (step, at);
CREATE INDEX stats_tenant ON webhook.stats (tenant, at);

-- How far each part of a queue beside the store was filled from it.
CREATE TABLE webhook.fills (
    part text COLLATE "C" PRIMARY KEY,
    -- Counts the writes.
    version bigint NOT NULL,
    -- Of which generation the part is or was that is filled.
    generation bigint NOT NULL,
    -- The last delivery that was pushed, while it is not complete.
    up_to uuid,
    is_complete boolean NOT NULL
) WITH (fillfactor = 50);

-- Bulk replays.
CREATE TABLE webhook.replays (
    id uuid PRIMARY KEY,
    -- NULL goes over all tenants.
    tenant text COLLATE "C",
    -- JSON.
    selection text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'completed', 'cancelled')),
    pace bigint NOT NULL,
    total bigint NOT NULL,
    total_is_exact boolean NOT NULL,
    done bigint NOT NULL,
    skipped bigint NOT NULL,
    created_by text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- The last row that it has looked at.
    after uuid,
    -- When its next step is due, or the lease of one that is under way ends.
    next_at timestamptz NOT NULL,
    -- Grows with each step that is claimed: who claimed before can take it no more.
    fence bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX replays_running ON webhook.replays (next_at, id) WHERE state = 'running';

-- UUIDv7-shaped: the time in ms, then a hash of what it is the delivery of.
CREATE FUNCTION webhook.delivery_id(made_at timestamptz, event uuid, endpoint uuid, replay_no integer)
    RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT encode(
        substring(int8send(floor(extract(epoch FROM made_at) * 1000)::bigint) FROM 3)
            || set_byte(
                set_byte(hash.tail, 0, (get_byte(hash.tail, 0) & 15) | 112),
                2, (get_byte(hash.tail, 2) & 63) | 128
            ),
        'hex'
    )::uuid
    FROM (
        SELECT substring(
            sha256(uuid_send(event) || uuid_send(endpoint) || int4send(replay_no)) FROM 7 FOR 10
        ) AS tail
        OFFSET 0
    ) AS hash
$$;

-- All deliveries, for people. `cause` says whose fault the last failure is.
CREATE VIEW webhook.all_deliveries AS
SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, status, NULL::text AS end_reason,
    attempts, CASE status WHEN 'pending' THEN due_at END AS next_retry_at, last_error, created_at,
    updated_at,
    CASE WHEN last_error = 'internal' THEN 'system' WHEN last_error IS NOT NULL THEN 'endpoint' END AS cause
FROM webhook.deliveries
UNION ALL
SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason,
    attempts, NULL, last_error, created_at, updated_at,
    CASE
        WHEN end_reason = 'corrupt' OR last_error = 'internal' THEN 'system'
        WHEN last_error IS NOT NULL OR end_reason IN ('exhausted', 'permanent', 'expired') THEN 'endpoint'
    END
FROM webhook.deliveries_history;

-- The first id of a time, in UUIDv7's order.
CREATE FUNCTION webhook.first_id(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT
AS $$
    SELECT (
        lpad(to_hex(greatest(floor(extract(epoch FROM at) * 1000), 0)::bigint), 12, '0') || repeat('0', 20)
    )::uuid
$$;

-- Makes the partitions of the days from `at` on that are not there, and answers how many. A day whose rows
-- went to the default partition before stays there. With its owner's rights: tables are made and dropped for
-- roles that may do neither.
CREATE FUNCTION webhook.make_partitions(at timestamptz, days integer) RETURNS integer LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent text;
    day timestamptz;
    partition text;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries_history', 'attempts'] LOOP
        FOR ahead IN 0 .. days - 1 LOOP
            day := (date_trunc('day', at AT TIME ZONE 'UTC') + ahead * interval '1 day') AT TIME ZONE 'UTC';
            partition := parent || to_char(day AT TIME ZONE 'UTC', '_YYYYMMDD');
            CONTINUE WHEN to_regclass('webhook.' || quote_ident(partition)) IS NOT NULL;
            BEGIN
                -- Attached rather than created in place: that would lock out all who read the parent.
                EXECUTE format('CREATE TABLE webhook.%I (LIKE webhook.%I INCLUDING ALL)', partition, parent);
                EXECUTE format(
                    'ALTER TABLE webhook.%I ATTACH PARTITION webhook.%I FOR VALUES FROM (%L) TO (%L)',
                    parent, partition, webhook.first_id(day), webhook.first_id(day + interval '1 day')
                );
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'rows of % are in the default partition of %', day, parent;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Whether a live delivery is of this day, or its event is: it needs the day's rows, or will when it ends.
CREATE FUNCTION webhook.is_needed(day timestamptz) RETURNS boolean LANGUAGE sql
AS $$
    SELECT EXISTS (
        SELECT FROM webhook.deliveries
        WHERE event_id >= webhook.first_id(day) AND event_id < webhook.first_id(day + interval '1 day')
            OR id >= webhook.first_id(day) AND id < webhook.first_id(day + interval '1 day')
    )
$$;

-- Whether a delivery of this day has ended since then, or a replay of one of its events. Not in SQL alone: its plan
-- would know of a partition that was dropped since.
CREATE FUNCTION webhook.ended_since(day timestamptz, since timestamptz) RETURNS boolean LANGUAGE plpgsql
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM webhook.deliveries_history
        WHERE id >= webhook.first_id(day) AND id < webhook.first_id(day + interval '1 day')
            AND updated_at >= since
    ) OR EXISTS (
        SELECT FROM webhook.deliveries_history
        WHERE replay_no > 0 AND updated_at >= since
            AND event_id >= webhook.first_id(day) AND event_id < webhook.first_id(day + interval '1 day')
    );
END
$$;

-- Drops the partitions of days in which all has ended before `before`, and answers how many. What a live delivery
-- needs, or one that ended since, stays with its whole day. With its owner's rights, as `make_partitions`.
CREATE FUNCTION webhook.drop_partitions(before timestamptz) RETURNS integer LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    partition record;
    dropped integer := 0;
BEGIN
    FOR partition IN
        SELECT child.relname AS name, parent.relname AS parent,
            to_timestamp(right(child.relname, 8), 'YYYYMMDD')::date::timestamp AT TIME ZONE 'UTC' AS day
        FROM pg_inherits
        JOIN pg_class AS child ON child.oid = inhrelid
        JOIN pg_class AS parent ON parent.oid = inhparent
        WHERE inhparent IN (
            'webhook.events'::regclass, 'webhook.deliveries_history'::regclass,
            'webhook.attempts'::regclass
        ) AND child.relname ~ '_[0-9]{8}$'
    LOOP
        CONTINUE WHEN partition.day + interval '1 day' > before OR webhook.is_needed(partition.day)
            OR webhook.ended_since(partition.day, before);
        BEGIN
            -- Whoever replays an event of that day has done so then, and is seen.
            EXECUTE format('LOCK TABLE ONLY webhook.%I IN ACCESS EXCLUSIVE MODE', partition.parent);
            CONTINUE WHEN webhook.is_needed(partition.day);
            EXECUTE format('DROP TABLE webhook.%I', partition.name);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            -- Another time, rather than that everyone waits for each of them.
            EXIT;
        END;
    END LOOP;
    RETURN dropped;
END
$$;

-- Else everybody might, as of any function.
REVOKE EXECUTE ON FUNCTION webhook.make_partitions, webhook.drop_partitions FROM PUBLIC;

-- For hosts that do not use the library's own way: accepts an event inside the transaction that calls it,
-- and answers its id. `data` is JSON text, and is sent byte for byte. The limits are the library's.
-- The commit also tells the processes that listen, once however many were accepted.
--
-- SELECT webhook.enqueue('order.paid', '{"order":7}', idempotency_key => 'order-7-paid');
CREATE FUNCTION webhook.enqueue(
    event_type text, data text, tenant text DEFAULT 'default', idempotency_key text DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, idempotency_window interval DEFAULT '24 hours'
) RETURNS uuid LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
<<accepted>>
DECLARE
    at timestamptz := clock_timestamp();
    random bytea := uuid_send(gen_random_uuid());
    id uuid;
    body bytea;
    fingerprint bytea;
    known record;
    brackets text;
BEGIN
    IF event_type IS NULL OR event_type !~ '^[A-Za-z0-9._-]{1,128}$' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'event_type must be 1 to 128 of the characters A-Z a-z 0-9 . _ -';
    END IF;
    -- White space and control characters as Unicode has them, whatever the locale.
    IF tenant IS NULL OR octet_length(tenant) NOT BETWEEN 1 AND 128 OR tenant COLLATE "C"
        ~ '[\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
    THEN
        RAISE invalid_parameter_value USING MESSAGE =
            'a tenant is 1 to 128 characters, without white space and control characters';
    END IF;
    IF idempotency_key !~ '^[ -~]{1,255}$' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'an idempotency key is 1 to 255 printable ASCII characters';
    END IF;
    -- What has a text form in RFC 3339; infinity has none.
    IF extract(epoch FROM deliver_at) * 1000000 NOT BETWEEN 0 AND 253402207200999999 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'deliver_at must be in the years 1970 to 9999';
    END IF;
    IF data IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'data must be JSON text';
    END IF;
    PERFORM data::json;
    IF length(translate(data, '[{', '')) < length(data) - 128 THEN
        -- Outside of strings there are only brackets left then, in pairs; each round takes the innermost.
        brackets := translate(regexp_replace(data, '"(?:[^"\\]|\\.)*"|[^][{}"]+', '', 'g'), '{}', '[]');
        FOR depth IN 1 .. 128 LOOP
            EXIT WHEN brackets = '';
            brackets := replace(brackets, '[]', '');
        END LOOP;
        IF brackets <> '' THEN
            RAISE invalid_parameter_value USING MESSAGE = 'data: nested deeper than 128 levels';
        END IF;
    END IF;
    body := convert_to(
        '{"type":"' || event_type || '","timestamp":"'
            || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","data":' || data || '}',
        'UTF8'
    );
    IF octet_length(body) > 262144 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the body must be at most 262144 bytes';
    END IF;
    id := webhook.delivery_id(at, encode(random, 'hex')::uuid, gen_random_uuid(), 0);

    IF idempotency_key IS NOT NULL THEN
        fingerprint := sha256(
            'd'::bytea || int8send(coalesce((extract(epoch FROM deliver_at) * 1000000)::bigint, -1))
                || convert_to(event_type, 'UTF8') || '\x00' || convert_to(data, 'UTF8')
        );
        DELETE FROM webhook.idempotency_keys AS key
        WHERE key.tenant = enqueue.tenant AND key.key = idempotency_key
            AND key.expires_at <= at;
        INSERT INTO webhook.idempotency_keys AS key (tenant, key, event_id, fingerprint, expires_at)
        VALUES (tenant, idempotency_key, id, fingerprint, at + idempotency_window)
        ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO UPDATE SET event_id = key.event_id
        RETURNING key.event_id, key.fingerprint INTO known;
        IF known.event_id <> id THEN
            IF known.fingerprint <> fingerprint THEN
                RAISE unique_violation USING MESSAGE =
                    'the idempotency key was used for another event: ' || known.event_id;
            END IF;
            RETURN known.event_id;
        END IF;
    END IF;

    INSERT INTO webhook.events (id, tenant, event_type, body, created_at, deliver_at)
    VALUES (id, tenant, event_type, body, at, deliver_at);
    INSERT INTO webhook.deliveries (
        id, event_id, endpoint_id, replay_no, tenant, event_type, ready, due_at, first_due,
        sequence, capped, ordered, created_at, updated_at
    )
    SELECT webhook.delivery_id(accepted.at, accepted.id, endpoint.id, 0), accepted.id, endpoint.id, 0,
        enqueue.tenant, enqueue.event_type, due.at <= accepted.at, due.at, due.at,
        nextval('webhook.delivery_sequence'), lane.max_in_flight IS NOT NULL,
        coalesce(lane.ordered, false), accepted.at, accepted.at
    FROM webhook.endpoints AS endpoint
    CROSS JOIN (SELECT greatest(enqueue.deliver_at, accepted.at) AS at) AS due
    LEFT JOIN webhook.lane_state AS lane ON lane.endpoint_id = endpoint.id
    WHERE endpoint.tenant = enqueue.tenant AND endpoint.state <> 'disabled'
        AND (
            cardinality(endpoint.exact_types) + cardinality(endpoint.type_prefixes) = 0
            OR enqueue.event_type = ANY (endpoint.exact_types)
            OR EXISTS (
                SELECT FROM unnest(endpoint.type_prefixes) AS prefix
                WHERE starts_with(enqueue.event_type, prefix)
                    AND octet_length(enqueue.event_type) > octet_length(prefix)
            )
        );
    IF FOUND THEN
        -- `webhook_ready`, in the schema that is meant.
        PERFORM pg_notify(array_to_string(parse_ident('webhook.ready'), '_'), '');
    END IF;
    RETURN id;
END
$$;
