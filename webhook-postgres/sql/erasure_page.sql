-- Takes the tenant whose step has been due the longest, unless another process has it, and finds what goes next of
-- its rows. $1 now or null, $2 the most rows of each kind.
WITH job AS MATERIALIZED (
    SELECT tenant, up_to, requested_at FROM webhook.erasures
    WHERE next_at <= coalesce($1::timestamptz, now())
    ORDER BY next_at LIMIT 1
    FOR UPDATE SKIP LOCKED
),
page AS MATERIALIZED (
    SELECT event.id, event.created_at
    FROM job
    CROSS JOIN LATERAL (
        SELECT id, created_at FROM webhook.events
        WHERE tenant = job.tenant AND id <= job.up_to
        ORDER BY id LIMIT $2::bigint
    ) AS event
),
-- Their ids begin with the time of the event; those of replays do not. `OFFSET 0` keeps it to the indexes.
live AS (
    SELECT delivery.id
    FROM page
    CROSS JOIN LATERAL (
        SELECT id FROM webhook.deliveries
        WHERE id >= webhook.first_id(page.created_at)
            AND id < webhook.first_id(page.created_at + interval '1 ms') AND event_id = page.id
        OFFSET 0
    ) AS delivery
    UNION
    SELECT delivery.id
    FROM page
    CROSS JOIN LATERAL (
        SELECT id FROM webhook.deliveries WHERE event_id = page.id AND replay_no > 0
        OFFSET 0
    ) AS delivery
)
SELECT job.tenant, job.up_to, job.requested_at,
    ARRAY(
        SELECT id FROM webhook.deliveries_history
        WHERE tenant = job.tenant AND id <= job.up_to
        ORDER BY id LIMIT $2::bigint
    ) AS ended,
    ARRAY(SELECT id FROM live ORDER BY id) AS live,
    ARRAY(SELECT id FROM page ORDER BY id) AS events
FROM job
