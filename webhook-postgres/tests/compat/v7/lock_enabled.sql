-- Locks those of these endpoints that are not disabled, before their health, as everybody does. $1 endpoints.
SELECT id FROM "webhook".endpoints
WHERE id = ANY ($1::uuid[]) AND state <> 'disabled'
-- In this order, as all who lock several do.
ORDER BY id
FOR NO KEY UPDATE
