-- Says when the next step of erasing a tenant is due, or ends it, and answers whether it has ended. $1 now or null,
-- $2 tenant, $3 whether the last step found something, $4 how long after the request it looks once more, in µs.
WITH job AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now, requested_at + $4::bigint * interval '1 microsecond' AS last_look
    FROM "webhook".erasures WHERE tenant = $2
),
moved AS (
    UPDATE "webhook".erasures SET next_at = CASE WHEN $3 THEN job.now ELSE job.last_look END
    FROM job
    WHERE tenant = $2 AND ($3 OR job.last_look > job.now)
),
ended AS (
    DELETE FROM "webhook".erasures USING job
    WHERE tenant = $2 AND NOT $3 AND job.last_look <= job.now
    RETURNING tenant
),
spared AS (
    DELETE FROM "webhook".spared WHERE tenant IN (SELECT tenant FROM ended)
)
SELECT EXISTS (SELECT FROM ended)
