-- Forgets a process. $1 id.
DELETE FROM "webhook".processes WHERE id = $1
