-- Finds what goes next of a tenant. Planned for it: one with few rows is found by other indexes than one that has them
-- all. $1 tenant, $2 up to which id, $3 the most rows of each kind.
WITH page AS MATERIALIZED (
    SELECT id, created_at FROM "webhook".events AS event
    WHERE tenant = $1 AND id <= $2::uuid
        AND NOT EXISTS (
            SELECT FROM "webhook".spared WHERE spared.tenant = $1 AND spared.event_id = event.id
        )
    ORDER BY id LIMIT $3::bigint
),
-- Their ids begin with the time of the event; those of replays do not. `OFFSET 0` keeps it to the indexes.
live AS (
    SELECT delivery.id
    FROM page
    CROSS JOIN LATERAL (
        SELECT id FROM "webhook".deliveries
        WHERE id >= "webhook".first_id(page.created_at)
            AND id < "webhook".first_id(page.created_at + interval '1 ms') AND event_id = page.id
        OFFSET 0
    ) AS delivery
    UNION
    SELECT delivery.id
    FROM page
    CROSS JOIN LATERAL (
        SELECT id FROM "webhook".deliveries WHERE event_id = page.id AND replay_no > 0
        OFFSET 0
    ) AS delivery
)
SELECT
    ARRAY(
        SELECT id FROM "webhook".deliveries_history AS ended
        WHERE tenant = $1 AND id <= $2::uuid
            AND NOT EXISTS (
                SELECT FROM "webhook".spared WHERE spared.tenant = $1 AND spared.event_id = ended.event_id
            )
        ORDER BY id LIMIT $3::bigint
    ) AS ended,
    ARRAY(SELECT id FROM live ORDER BY id) AS live,
    ARRAY(SELECT id FROM page ORDER BY id) AS events
