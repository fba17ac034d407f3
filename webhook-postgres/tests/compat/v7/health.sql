-- How endpoints do that are in trouble. $1 now or null, $2 endpoints, $3 tenant or null for all.
SELECT health.endpoint_id, health.failing_since, health.notified_at, health.trips, health.opened_at,
    health.open_until, coalesce($1::timestamptz, now()) AS now
FROM "webhook".endpoint_health AS health
JOIN "webhook".endpoints AS endpoint ON endpoint.id = health.endpoint_id
WHERE health.endpoint_id = ANY ($2::uuid[]) AND ($3::text IS NULL OR endpoint.tenant = $3)
