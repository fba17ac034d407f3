-- Leases that have passed no longer count; who comes first claims the job.
UPDATE webhook_deliveries SET leased = 0 WHERE leased = 1 AND lease_until <= ?1 RETURNING endpoint_id
