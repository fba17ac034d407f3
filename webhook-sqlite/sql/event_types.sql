SELECT id, name, description, schema, example, created_at, updated_at
FROM webhook_event_types
WHERE TRUE
