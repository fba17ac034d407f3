-- Erases rows of a tenant, and answers how many. Those in partitions are given with the first and the last of them, so
-- that the others are not looked into. $1 tenant, $2 up to which id, $3 up to which time it counted, $4 the most keys
-- and statistics; deliveries: $5 the ended ones, $6 first, $7 last, $8 the live ones, $9 all of them, $10 first, $11
-- last; $12 events, $13 first, $14 last.
WITH live AS MATERIALIZED (
    -- In this order, as all who lock several do.
    SELECT id FROM "webhook".deliveries WHERE id = ANY ($8::uuid[]) ORDER BY id FOR UPDATE
),
deliveries AS (
    DELETE FROM "webhook".deliveries WHERE id = ANY ($8::uuid[]) AND (SELECT count(*) FROM live) >= 0
    RETURNING 1
),
history AS (
    DELETE FROM "webhook".deliveries_history WHERE id = ANY ($5::uuid[]) AND id BETWEEN $6::uuid AND $7::uuid
    RETURNING 1
),
attempts AS (
    DELETE FROM "webhook".attempts
    WHERE delivery_id = ANY ($9::uuid[]) AND delivery_id BETWEEN $10::uuid AND $11::uuid
    RETURNING 1
),
events AS (
    DELETE FROM "webhook".events WHERE id = ANY ($12::uuid[]) AND id BETWEEN $13::uuid AND $14::uuid
    RETURNING 1
),
keys AS (
    DELETE FROM "webhook".idempotency_keys
    WHERE tenant = $1 AND key = ANY (ARRAY(
        SELECT key FROM "webhook".idempotency_keys
        WHERE tenant = $1 AND event_id <= $2::uuid AND "webhook".is_erased(tenant, event_id)
        ORDER BY key LIMIT $4::bigint
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING 1
),
stats AS (
    DELETE FROM "webhook".stats
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM "webhook".stats WHERE tenant = $1 AND at <= $3::timestamptz LIMIT $4::bigint
    ))
    RETURNING 1
)
SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM history) + (SELECT count(*) FROM attempts)
    + (SELECT count(*) FROM events) + (SELECT count(*) FROM keys) + (SELECT count(*) FROM stats) AS erased
