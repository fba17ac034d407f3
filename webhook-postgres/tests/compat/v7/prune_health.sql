-- Forgets those of these endpoints that do well. $1 endpoints.
DELETE FROM "webhook".endpoint_health
WHERE endpoint_id = ANY ($1::uuid[]) AND failing_since IS NULL AND trips IS NULL
