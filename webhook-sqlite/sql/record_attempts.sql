INSERT INTO webhook_attempts
    (
        delivery_id, number, started_at, duration, first_byte, status, error_kind, truncated, request_headers,
        response_headers, response_body
    )
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
