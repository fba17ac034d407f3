-- The catalogue of event types, one for all tenants.
CREATE TABLE webhook_event_types (
    id BLOB PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- JSON texts, as they were given.
    schema TEXT,
    example TEXT,
    -- Counts its changes: the sum of all is the version of the catalogue.
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
