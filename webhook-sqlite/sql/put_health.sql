INSERT OR REPLACE INTO webhook_endpoint_health
    (endpoint_id, failing_since, notified_at, trips, opened_at, open_until)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
