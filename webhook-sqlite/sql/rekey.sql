-- The same endpoint under another key. One that has changed since it was read stays as it is.
UPDATE webhook_endpoints
SET url = ?3, secrets = ?4
WHERE id = ?1 AND version = ?2
