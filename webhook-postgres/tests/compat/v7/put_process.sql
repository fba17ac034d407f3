-- Stores that a process is alive. $1 now or null, $2 id, $3 role, $4 version, $5 started_at, $6 in_flight, $7 slots.
INSERT INTO "webhook".processes (id, role, version, started_at, seen_at, in_flight, slots)
VALUES ($2, $3, $4, $5, coalesce($1::timestamptz, now()), $6, $7)
ON CONFLICT (id) DO UPDATE
SET role = excluded.role, version = excluded.version, started_at = excluded.started_at,
    seen_at = excluded.seen_at, in_flight = excluded.in_flight, slots = excluded.slots
