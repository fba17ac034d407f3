-- Takes away rows with steps of ?1 that began before ?3 and are to be merged to steps of ?2: of the oldest such
-- step, at most ?4, and in the order in which they merge.
WITH oldest (at) AS (
    SELECT min(at) - min(at) % ?2 FROM webhook_stats WHERE step = ?1 AND at < ?3
)
DELETE FROM webhook_stats
WHERE rowid IN (
    SELECT rowid
    FROM webhook_stats
    WHERE step = ?1 AND at >= (SELECT at FROM oldest) AND at < (SELECT at FROM oldest) + ?2
    ORDER BY tenant, endpoint_id
    LIMIT +?4
)
RETURNING at, step, tenant, endpoint_id, counts
