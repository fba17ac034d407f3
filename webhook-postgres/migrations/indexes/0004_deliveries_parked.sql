-- Counts what waits for an endpoint until later: retries, and events for later. What succeeds at once is never in it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_parked
ON webhook.deliveries (endpoint_id, due_at) WHERE NOT ready AND status = 'pending'
