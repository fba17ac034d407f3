SELECT id, role, version, started_at, seen_at, in_flight, slots
FROM webhook_processes
WHERE seen_at > ?1
ORDER BY id DESC
LIMIT 1000
