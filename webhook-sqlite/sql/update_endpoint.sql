UPDATE webhook_endpoints
SET
    url = ?3,
    settings = ?4,
    secrets = ?5,
    state = ?6,
    state_reason = ?7,
    version = ?8,
    created_at = ?9,
    updated_at = ?10,
    max_in_flight = ?11,
    rate_limit = ?12,
    rate_per = ?13,
    ordered = ?14
WHERE id = ?1 AND tenant = ?2 AND version + 1 = ?8
