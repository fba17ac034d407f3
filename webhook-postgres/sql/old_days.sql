-- The days of which there are partitions and which were over before what is kept began, oldest first, and when that was.
-- $1 now or null, $2 how long to keep what has ended, in µs.
SELECT DISTINCT partition.day, kept.start
FROM (
    SELECT to_timestamp(right(child.relname, 8), 'YYYYMMDD')::date::timestamp AT TIME ZONE 'UTC' AS day
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent IN (
        'webhook.events'::regclass, 'webhook.deliveries_history'::regclass, 'webhook.attempts'::regclass
    ) AND child.relname ~ '_[0-9]{8}$'
) AS partition
CROSS JOIN (
    SELECT coalesce($1::timestamptz, now()) - $2::bigint * interval '1 microsecond' AS start
) AS kept
WHERE partition.day + interval '1 day' <= kept.start
ORDER BY partition.day
