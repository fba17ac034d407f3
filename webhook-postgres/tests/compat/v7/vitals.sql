-- How many endpoints are in which trouble: the others have no row. $1 now or null.
WITH clock AS MATERIALIZED (
    SELECT coalesce($1::timestamptz, now()) AS now
)
SELECT count(*) FILTER (WHERE health.open_until > clock.now) AS breakers_open,
    count(*) FILTER (WHERE health.open_until <= clock.now) AS breakers_half_open,
    count(health.failing_since) AS endpoints_failing
FROM "webhook".endpoint_health AS health, clock
