DELETE FROM webhook_erasures WHERE tenant = ?1
