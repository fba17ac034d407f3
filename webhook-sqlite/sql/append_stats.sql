INSERT INTO webhook_stats (at, step, tenant, endpoint_id, counts) VALUES (?, ?, ?, ?, ?)
