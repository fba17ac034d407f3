-- Replaces how endpoints do, of which the rows are locked.
-- Arrays of one element an endpoint: $1 endpoint, $2 failing_since, $3 notified_at, $4 trips, $5 opened_at, $6 open_until.
UPDATE "webhook".endpoint_health AS health
SET failing_since = input.failing_since, notified_at = input.notified_at, trips = input.trips,
    opened_at = input.opened_at, open_until = input.open_until
FROM unnest(
    $1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::timestamptz[], $6::timestamptz[]
) AS input (endpoint_id, failing_since, notified_at, trips, opened_at, open_until)
WHERE health.endpoint_id = input.endpoint_id
