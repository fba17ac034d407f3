-- Fills an empty schema: $FINISHED deliveries that have ended, $PARKED that wait for an hour in $LANES lanes,
-- and 100 ready ones in each of 64 other lanes.
INSERT INTO webhook.deliveries (id, event_id, endpoint_id, replay_no, tenant, event_type, ready, due_at,
    first_due, sequence, capped, ordered, created_at, updated_at)
SELECT webhook.first_id(now() - n * interval '1 ms'), gen_random_uuid(),
    ('00000000-0000-7000-8000-' || lpad(to_hex(lane), 12, '0'))::uuid, 0, 'default', 'a', ready,
    now() + CASE WHEN ready THEN -1 ELSE 3600 END * interval '1 s', now(), n, false, false, now(), now()
FROM (
    SELECT n, 100000 + n % 64 AS lane, true AS ready FROM generate_series(1, 6400) AS n
    UNION ALL
    SELECT 10000 + n, n % greatest($LANES, 1), false FROM generate_series(1, $PARKED) AS n
) AS job;

INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type, status,
    attempts, created_at, updated_at)
SELECT webhook.first_id(now() - n * interval '10 ms'), gen_random_uuid(), gen_random_uuid(), 0, 'default',
    'a', 'succeeded', 1, now(), now()
FROM generate_series(1, $FINISHED) AS n;

INSERT INTO webhook.events (id, tenant, event_type, body, created_at)
SELECT id, 'default', 'a', '{}', now() FROM webhook.deliveries_history;

INSERT INTO webhook.attempts (delivery_id, number, started_at, duration, request_headers, truncated)
SELECT id, 1, now(), 1, '', false FROM webhook.deliveries_history;
