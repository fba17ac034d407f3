SELECT count(*) FROM (SELECT 1 FROM webhook_migrations LIMIT 1)
