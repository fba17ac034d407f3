-- Forgets what the last erasure left.
DELETE FROM webhook_spared WHERE tenant = ?1
