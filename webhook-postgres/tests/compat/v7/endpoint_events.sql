-- A page of a tenant's events, in the order of their ids, each with its last delivery to an endpoint. $1 endpoint,
-- $2 tenant, $3 the id after which it begins, $4 the id before which it ends, $5 the most, $6 whether the bodies are
-- needed.
WITH page AS MATERIALIZED (
    SELECT id, tenant, event_type, CASE WHEN $6::boolean THEN body ELSE '' END AS body, created_at, deliver_at,
        traceparent
    FROM "webhook".events
    WHERE tenant = $2::text AND id > $3::uuid AND id < $4::uuid
    ORDER BY id LIMIT $5::bigint
)
SELECT page.*, last.replay_no, last.status
FROM page
LEFT JOIN LATERAL (
    SELECT delivery.replay_no, delivery.status
    FROM (
        -- The one that the event made itself has an id that can be told.
        SELECT replay_no, status FROM "webhook".deliveries
        WHERE id = "webhook".delivery_id(page.created_at, page.id, $1::uuid, 0)
        UNION ALL
        SELECT replay_no, status FROM "webhook".deliveries_history
        WHERE id = "webhook".delivery_id(page.created_at, page.id, $1::uuid, 0)
        UNION ALL
        SELECT replay_no, status FROM "webhook".deliveries
        WHERE event_id = page.id AND replay_no > 0 AND endpoint_id = $1::uuid
        UNION ALL
        SELECT replay_no, status FROM "webhook".deliveries_history
        WHERE event_id = page.id AND replay_no > 0 AND endpoint_id = $1::uuid
    ) AS delivery
    ORDER BY delivery.replay_no DESC LIMIT 1
) AS last ON true
ORDER BY page.id
