INSERT INTO webhook_lanes (endpoint_id, tenant) VALUES (?1, ?2)
