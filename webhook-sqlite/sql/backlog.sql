-- What waits for endpoint ?1 in the scope ?2, as far as its first ?4 rows tell.
WITH
job (due) AS MATERIALIZED (
    SELECT due FROM webhook_deliveries WHERE endpoint_id = ?1 AND leased = 0 ORDER BY place LIMIT +?4
)
SELECT
    (SELECT count(*) FROM job WHERE due <= ?3) AS due,
    (SELECT count(*) FROM job WHERE due > ?3) AS parked,
    (SELECT min(due) FROM job) AS oldest_due
FROM webhook_endpoints
WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)
