-- A page of the audit log, newest first. $1 tenant or null for all, $2 the id before which it begins or null, $3 the
-- most; filters, null where there is none: $4 actor, $5 action, $6 target, $7 since, $8 until.
SELECT id, at, actor, tenant, action, target, detail
FROM "webhook".audit
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($4::text IS NULL OR actor = $4)
    AND ($5::text IS NULL OR action = $5)
    AND ($6::text IS NULL OR target = $6)
    AND ($7::timestamptz IS NULL OR at >= $7)
    AND ($8::timestamptz IS NULL OR at < $8)
ORDER BY id DESC LIMIT $3::bigint
