SELECT catalogue.version, event_type.name, event_type.schema
FROM (SELECT coalesce(sum(version), 0) AS version FROM webhook_event_types) AS catalogue
LEFT JOIN webhook_event_types AS event_type
    ON event_type.schema IS NOT NULL AND catalogue.version <> ?1
