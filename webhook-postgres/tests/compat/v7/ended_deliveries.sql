-- A page of deliveries that have ended, in the order of their ids, and whether they can be replayed: event and
-- endpoint are there, and nothing of them was replayed since. $1 tenant or null for all, $2 the id after which it
-- begins, $3 the most, $4 endpoint or null, $5 status or null.
WITH page AS MATERIALIZED (
    SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, status, end_reason, attempts, last_error,
        created_at, updated_at
    FROM "webhook".deliveries_history
    WHERE id > $2::uuid AND ($1::text IS NULL OR tenant = $1) AND ($4::uuid IS NULL OR endpoint_id = $4)
        AND ($5::text IS NULL OR status = $5)
    ORDER BY id LIMIT $3::bigint
)
SELECT page.*, NULL::timestamptz AS next_retry_at,
    EXISTS (SELECT FROM "webhook".endpoints WHERE id = page.endpoint_id)
    AND EXISTS (SELECT FROM "webhook".events WHERE id = page.event_id)
    AND NOT EXISTS (
        SELECT FROM "webhook".deliveries AS newer
        WHERE newer.event_id = page.event_id AND newer.replay_no > 0
            AND newer.endpoint_id = page.endpoint_id AND newer.replay_no > page.replay_no
    )
    AND NOT EXISTS (
        SELECT FROM "webhook".deliveries_history AS newer
        WHERE newer.event_id = page.event_id AND newer.replay_no > 0
            AND newer.endpoint_id = page.endpoint_id AND newer.replay_no > page.replay_no
    ) AS is_last
FROM page
ORDER BY page.id
