-- Where a page of deliveries ends at the latest, if there are more of those that an index finds: as deliveries.sql, $1
-- tenant, $2 the id before which it begins, $3 endpoint, $4 status, $5 until; $6 how many are passed over.
SELECT id FROM "webhook".all_deliveries
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($3::uuid IS NULL OR endpoint_id = $3)
    AND ($4::text IS NULL OR status = $4)
    AND ($5::timestamptz IS NULL OR id < "webhook".first_id($5 + interval '1 hour'))
ORDER BY id DESC OFFSET $6::bigint LIMIT 1
