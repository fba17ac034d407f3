-- How many endpoints a tenant has but for one. $1 tenant, $2 that one, $3 how far is counted.
SELECT count(*) FROM (
    SELECT FROM "webhook".endpoints WHERE tenant = $1::text AND id <> $2::uuid LIMIT $3::bigint
) AS others
