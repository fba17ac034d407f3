-- The same endpoint under another key. One that has changed since it was read stays as it is.
-- $1 id, $2 the version that was read, $3 url, $4 secrets.
UPDATE "webhook".endpoints SET url = $3, secrets = $4 WHERE id = $1 AND version = $2
