SELECT
    delivery_id AS id, started_at, duration, first_byte, status, error_kind, truncated, request_headers,
    response_headers, response_body
FROM webhook_attempts
WHERE delivery_id = ?1
ORDER BY number
