-- Adds an entry to the audit log. $1 id, $2 at, $3 actor, $4 tenant or null for all, $5 action, $6 target, $7 detail.
INSERT INTO "webhook".audit (id, at, actor, tenant, action, target, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING
