-- Adds rows of statistics.
-- $1 when their steps begin, $2 how long these are, in seconds, $3 tenants, $4 endpoints or null, $5 counts.
INSERT INTO "webhook".stats (at, step, tenant, endpoint_id, counts)
SELECT * FROM unnest($1::timestamptz[], $2::integer[], $3::text[], $4::uuid[], $5::bytea[])
