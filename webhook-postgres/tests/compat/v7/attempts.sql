-- A delivery's attempts, oldest first. $1 delivery.
SELECT delivery_id AS id, started_at, duration, first_byte, request_headers, status, error_kind,
    response_headers, response_body, truncated
FROM "webhook".attempts
WHERE delivery_id = $1::uuid
ORDER BY number
