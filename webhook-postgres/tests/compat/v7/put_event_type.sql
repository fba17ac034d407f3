-- Stores an entry of the catalogue of event types, or replaces the one of its name. $1 id, $2 name, $3 description,
-- $4 schema, $5 example, $6 created_at, $7 updated_at.
INSERT INTO "webhook".event_types AS known (
    id, name, description, schema, example, version, created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, 1, $6, $7)
ON CONFLICT (name) DO UPDATE
SET description = excluded.description, schema = excluded.schema, example = excluded.example,
    version = known.version + 1, updated_at = excluded.updated_at
RETURNING id, name, description, schema, example, created_at, updated_at
