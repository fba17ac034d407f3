-- Stores up to which id a tenant's rows go. The other tables follow the endpoints and the replays.
INSERT INTO webhook_erasures (tenant, up_to, requested_at, next_at)
VALUES (?1, ?2, ?3, ?3)
ON CONFLICT (tenant) DO UPDATE
SET up_to = excluded.up_to, requested_at = excluded.requested_at, next_at = excluded.next_at
