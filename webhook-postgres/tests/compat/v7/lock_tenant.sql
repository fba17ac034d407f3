-- Lets one transaction at a time add endpoints to a tenant, to its end. $1 tenant.
SELECT pg_advisory_xact_lock(hashtextextended('"webhook".endpoints', hashtextextended($1::text, 0)))
