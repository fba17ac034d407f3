-- Disables endpoints, of which the rows are locked.
-- $1 now or null, then arrays of one element an endpoint: $2 endpoint, $3 reason.
UPDATE "webhook".endpoints AS endpoint
SET state = 'disabled', state_reason = input.reason, version = endpoint.version + 1,
    updated_at = coalesce($1::timestamptz, now())
FROM unnest($2::uuid[], $3::text[]) AS input (id, reason)
WHERE endpoint.id = input.id
