INSERT INTO webhook_endpoints
    (
        id, tenant, url, settings, secrets, state, state_reason, version, created_at, updated_at, max_in_flight,
        rate_limit, rate_per, ordered
    )
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
