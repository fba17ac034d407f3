-- Drops the partitions of a day that is over before `before`. What of it is still needed moves to the default partitions
-- first, in the same transaction: what a live delivery needs, or will when it ends, and what belongs to a delivery that
-- has ended since `before`. If that is more than `most_rows` rows of a kind or `most_bytes`, or would come to default
-- partitions that are larger than `most_kept` bytes, the day stays whole: everybody waits while it moves, and while the
-- default partitions are looked through for a new day's rows. Answers how many partitions were dropped and how many rows
-- moved; nulls if the locks were not to be had. With its owner's rights, as `make_partitions`.
--
-- `drop_partitions` stays, for processes of the version before.
CREATE FUNCTION webhook.drop_day(
    day timestamptz, before timestamptz, most_rows integer, most_bytes bigint, most_kept bigint,
    OUT dropped integer, OUT moved integer
) LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    -- Rather another time than that everyone waits behind this. Shorter than it takes to find a deadlock: whoever locked
    -- the three in another order goes on.
    SET lock_timeout = '500ms'
AS $$
#variable_conflict use_variable
DECLARE
    begin_of CONSTANT uuid := webhook.first_id(day);
    end_of CONSTANT uuid := webhook.first_id(day + interval '1 day');
    events uuid[];
    deliveries uuid[];
    attempts bigint;
    bytes bigint;
    kind record;
    rows integer;
BEGIN
    dropped := 0;
    moved := 0;
    IF day + interval '1 day' > before THEN
        RETURN;
    END IF;
    FOR look IN 1 .. 2 LOOP
        -- First without locks. Then whoever replays an event of that day has done so, and is seen.
        IF look = 2 THEN
            LOCK TABLE ONLY webhook.events, ONLY webhook.deliveries_history, ONLY webhook.attempts
                IN ACCESS EXCLUSIVE MODE;
        END IF;
        deliveries := ARRAY(
            (SELECT id FROM webhook.deliveries WHERE id >= begin_of AND id < end_of LIMIT most_rows + 1)
            UNION ALL
            (
                SELECT id FROM webhook.deliveries_history
                WHERE id >= begin_of AND id < end_of AND updated_at >= before
                LIMIT most_rows + 1
            )
        );
        events := ARRAY(
            SELECT event_id FROM webhook.deliveries WHERE event_id >= begin_of AND event_id < end_of
            UNION
            SELECT event_id FROM webhook.deliveries_history
            WHERE replay_no > 0 AND updated_at >= before AND event_id >= begin_of AND event_id < end_of
            UNION
            -- Of what was no replay: their ids begin with when the event was made.
            SELECT event_id FROM webhook.deliveries_history
            WHERE id >= webhook.first_id(day - interval '1 hour') AND id < webhook.first_id(day + interval '25 hours')
                AND updated_at >= before AND event_id >= begin_of AND event_id < end_of
            LIMIT most_rows + 1
        );
        IF greatest(cardinality(events), cardinality(deliveries)) > most_rows THEN
            RETURN;
        END IF;
        SELECT count(*), coalesce(sum(
                pg_column_size(attempt.request_headers) + coalesce(pg_column_size(attempt.response_headers), 0)
                    + coalesce(pg_column_size(attempt.response_body), 0)
            ), 0)
        INTO attempts, bytes
        FROM webhook.attempts AS attempt
        WHERE attempt.delivery_id >= begin_of AND attempt.delivery_id < end_of AND attempt.delivery_id = ANY (deliveries);
        bytes := bytes + (
            SELECT coalesce(sum(pg_column_size(event.body)), 0) FROM webhook.events AS event
            WHERE event.id >= begin_of AND event.id < end_of AND event.id = ANY (events)
        );
        IF attempts > most_rows OR bytes > most_bytes OR cardinality(events) + cardinality(deliveries) > 0
            AND greatest(
                pg_relation_size('webhook.events_default'), pg_relation_size('webhook.deliveries_history_default'),
                pg_relation_size('webhook.attempts_default')
            ) > most_kept
        THEN
            RETURN;
        END IF;
    END LOOP;

    FOR kind IN
        SELECT parent.relname AS parent, child.relname AS partition, kept.key, kept.ids
        FROM (
            VALUES ('webhook.events'::regclass, 'id', events),
                ('webhook.deliveries_history'::regclass, 'id', deliveries),
                ('webhook.attempts'::regclass, 'delivery_id', deliveries)
        ) AS kept (parent, key, ids)
        JOIN pg_class AS parent ON parent.oid = kept.parent
        JOIN pg_inherits ON inhparent = parent.oid
        JOIN pg_class AS child ON child.oid = inhrelid
        WHERE child.relname = parent.relname || to_char(day AT TIME ZONE 'UTC', '_YYYYMMDD')
    LOOP
        EXECUTE format('ALTER TABLE webhook.%I DETACH PARTITION webhook.%I', kind.parent, kind.partition);
        EXECUTE format(
            'INSERT INTO webhook.%I SELECT * FROM webhook.%I WHERE %I = ANY ($1)', kind.parent, kind.partition, kind.key
        ) USING kind.ids;
        GET DIAGNOSTICS rows = ROW_COUNT;
        moved := moved + rows;
        EXECUTE format('DROP TABLE webhook.%I', kind.partition);
        dropped := dropped + 1;
    END LOOP;
EXCEPTION WHEN lock_not_available THEN
    dropped := NULL;
    moved := NULL;
END
$$;

-- For those who may drop partitions already.
REVOKE EXECUTE ON FUNCTION webhook.drop_day FROM PUBLIC;
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT acl.grantee::regrole AS name
        FROM pg_proc AS function, aclexplode(function.proacl) AS acl
        WHERE function.oid = 'webhook.drop_partitions'::regproc AND acl.grantee NOT IN (0, function.proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION webhook.drop_day TO %s', given.name);
    END LOOP;
END
$$;
