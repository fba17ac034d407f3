-- A page of the catalogue of event types, newest first. $1 the id before which it begins or null, $2 the most, $3 the
-- only name or null.
SELECT id, name, description, schema, example, created_at, updated_at
FROM "webhook".event_types
WHERE ($1::uuid IS NULL OR id < $1) AND ($3::text IS NULL OR name = $3)
ORDER BY id DESC LIMIT $2::bigint
