SELECT id, at, actor, tenant, action, target, detail
FROM webhook_audit
WHERE TRUE
