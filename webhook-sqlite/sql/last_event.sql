-- A tenant's last one by its id.
SELECT id, created_at FROM webhook_events WHERE tenant = ?1 ORDER BY id DESC LIMIT 1
