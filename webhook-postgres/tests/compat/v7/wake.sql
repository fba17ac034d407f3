-- Lets deliveries be claimed whose time has come: retries, scheduled ones, and those whose lease has ended.
-- $1 now or null, $2 the most of them.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
),
woken AS (
    UPDATE "webhook".deliveries SET ready = true
    WHERE id = ANY (ARRAY(
        SELECT id FROM "webhook".deliveries
        WHERE NOT ready AND due_at <= (SELECT now FROM clock)
        ORDER BY due_at LIMIT $2::bigint
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING status
)
SELECT clock.now,
    (SELECT count(*) FROM woken) AS woken,
    -- Whoever claimed these did not settle them in time.
    (SELECT count(*) FROM woken WHERE status = 'in_progress') AS reclaimed,
    EXISTS (SELECT FROM "webhook".deliveries WHERE ready) AS has_ready,
    (
        SELECT due_at FROM "webhook".deliveries
        WHERE NOT ready AND due_at > (SELECT now FROM clock)
        ORDER BY due_at LIMIT 1
    ) AS next_due
FROM clock
