DELETE FROM webhook_audit WHERE at < ?1
