-- The version of the catalogue of event types, and beside it all schemas, unless it is the known one. $1 that.
SELECT catalogue.version, event_type.name, event_type.schema
FROM (SELECT coalesce(sum(version), 0)::bigint AS version FROM "webhook".event_types) AS catalogue
LEFT JOIN "webhook".event_types AS event_type
    ON event_type.schema IS NOT NULL AND catalogue.version <> $1::bigint
