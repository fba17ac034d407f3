WITH attempt (
    delivery_id, started_at, duration, first_byte, status, error_kind, truncated, request_headers, response_headers,
    response_body
) AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
INSERT INTO webhook_attempts
    (
        delivery_id, number, started_at, duration, first_byte, status, error_kind, truncated, request_headers,
        response_headers, response_body
    )
SELECT
    attempt.delivery_id, delivery.attempts + 1, attempt.started_at, attempt.duration, attempt.first_byte,
    attempt.status, attempt.error_kind, attempt.truncated, attempt.request_headers, attempt.response_headers,
    attempt.response_body
FROM attempt
CROSS JOIN webhook_deliveries AS delivery ON delivery.id = attempt.delivery_id
