-- How many endpoints are in which trouble: the others have no row. ? now.
SELECT
    coalesce(sum(open_until > now), 0) AS breakers_open,
    coalesce(sum(open_until <= now), 0) AS breakers_half_open,
    count(failing_since) AS endpoints_failing
FROM webhook_endpoint_health, (SELECT ? AS now)
