-- An event that SQL enqueues may belong to a trace, too. One argument more makes another function. The former cannot stay
-- beside it, as calls that leave arguments out would fit both. Calls are as before, also prepared ones; its owner, who may
-- call it, with whose rights and with which settings it runs are carried over. What the catalogue knows to depend on the
-- former, such as a view, stops this: drop it first.

-- For hosts that do not use the library's own way: accepts an event inside the transaction that calls it,
-- and answers its id. `data` is JSON text, and is sent byte for byte. The limits are the library's.
-- The commit also tells the processes that listen, once however many were accepted.
-- `traceparent` is the W3C trace that its deliveries belong to; what is none is ignored.
-- It cannot check data against a schema, and so refuses the types that have one. An idempotency key does not stand for
-- what is being erased.
--
-- SELECT webhook.enqueue('order.paid', '{"order":7}', idempotency_key => 'order-7-paid');
CREATE FUNCTION webhook.enqueue(
    event_type text, data text, tenant text DEFAULT 'default', idempotency_key text DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, idempotency_window interval DEFAULT '24 hours',
    traceparent text DEFAULT NULL
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
    IF EXISTS (
        SELECT FROM webhook.event_types AS entry
        WHERE entry.name = enqueue.event_type AND entry.schema IS NOT NULL
    ) THEN
        RAISE feature_not_supported USING MESSAGE =
            'events of the type ' || event_type || ' must fit a schema, which webhook.enqueue cannot check';
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
            AND (key.expires_at <= at OR webhook.is_erased(key.tenant, key.event_id));
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

    INSERT INTO webhook.events (id, tenant, event_type, body, created_at, deliver_at, traceparent)
    VALUES (
        id, tenant, event_type, body, at, deliver_at,
        -- As the library reads one: no version ff, nothing after version 00, no id of zeros, of later versions what is
        -- known.
        '00' || substring(
            traceparent FROM
            '^(?:00(?=.{53}$)|(?!00|ff)[0-9a-f]{2})(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?:-|$)'
        )
    );
    INSERT INTO webhook.spared (tenant, event_id)
    SELECT enqueue.tenant, accepted.id
    FROM webhook.erasures AS erasure
    WHERE erasure.tenant = enqueue.tenant AND accepted.id <= erasure.up_to;
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

DO $$
DECLARE
    former regprocedure := 'webhook.enqueue(text, text, text, text, timestamptz, interval)';
    heir regprocedure := 'webhook.enqueue(text, text, text, text, timestamptz, interval, text)';
    given record;
    setting text;
BEGIN
    SELECT prosecdef, proowner, coalesce(proconfig, '{}') AS settings INTO given FROM pg_proc WHERE oid = former;
    IF given.proowner <> current_user::regrole THEN
        EXECUTE format('ALTER FUNCTION %s OWNER TO %s', heir, given.proowner::regrole);
    END IF;
    IF given.prosecdef THEN
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', heir);
    END IF;
    FOREACH setting IN ARRAY given.settings LOOP
        IF split_part(setting, '=', 1) = 'search_path' THEN
            EXECUTE format('ALTER FUNCTION %s SET search_path = %s', heir, substring(setting FROM '=(.*)'));
        ELSE
            EXECUTE format(
                'ALTER FUNCTION %s SET %I = %L', heir, split_part(setting, '=', 1), substring(setting FROM '=(.*)')
            );
        END IF;
    END LOOP;
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', heir);
    FOR given IN
        SELECT acl.grantee, acl.is_grantable
        FROM pg_proc AS function,
            aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS acl
        WHERE function.oid = former
    LOOP
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION %s TO %s %s', heir,
            CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END,
            CASE WHEN given.is_grantable THEN 'WITH GRANT OPTION' END
        );
    END LOOP;
    EXECUTE format('DROP FUNCTION %s', former);
END
$$;
