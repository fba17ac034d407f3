INSERT INTO webhook_processes (id, role, version, started_at, seen_at, in_flight, slots)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (id) DO UPDATE
SET role = excluded.role, version = excluded.version, started_at = excluded.started_at,
    seen_at = excluded.seen_at, in_flight = excluded.in_flight, slots = excluded.slots
