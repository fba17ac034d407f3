INSERT INTO webhook_audit (id, at, actor, tenant, action, target, detail)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (id) DO NOTHING
