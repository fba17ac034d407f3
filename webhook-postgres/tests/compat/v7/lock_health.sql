-- How endpoints do, for whoever changes it: each has a row then, and nobody else changes it meanwhile.
-- $1 now or null, $2 endpoints.
INSERT INTO "webhook".endpoint_health AS health (endpoint_id)
SELECT id FROM "webhook".endpoints WHERE id = ANY ($2::uuid[])
-- In this order, as all who lock several do.
ORDER BY id
ON CONFLICT (endpoint_id) DO UPDATE SET trips = health.trips
RETURNING endpoint_id, failing_since, notified_at, trips, opened_at, open_until, coalesce($1::timestamptz, now()) AS now
