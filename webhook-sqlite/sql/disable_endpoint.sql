UPDATE webhook_endpoints SET state = 'disabled', state_reason = ?2, version = version + 1, updated_at = ?3
WHERE id = ?1 AND state <> 'disabled'
