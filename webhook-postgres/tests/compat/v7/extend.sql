-- Lets leases last longer, those that still stand.
-- $1 now or null, then arrays of one element a claim: $2 delivery, $3 fence; $4 how long from now, in µs.
UPDATE "webhook".deliveries AS delivery
SET ready = false, due_at = coalesce($1::timestamptz, now()) + $4::bigint * interval '1 microsecond'
FROM unnest($2::uuid[], $3::bigint[]) AS input (id, fence)
WHERE delivery.id = input.id AND delivery.fence = input.fence
    AND delivery.status || '' = 'in_progress'
RETURNING delivery.id, delivery.due_at
