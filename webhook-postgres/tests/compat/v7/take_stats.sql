-- Takes away rows of statistics that are to be merged to longer steps: of the oldest such step, and in the
-- order in which they merge.
-- $1 now or null, $2 how long their steps are, $3 how long the longer ones are, $4 how long after they
-- began, all in seconds, $5 the most rows.
WITH due AS MATERIALIZED (
    SELECT to_timestamp(
        floor((extract(epoch FROM coalesce($1::timestamptz, now())) - $4::integer) / $3::integer) * $3
    ) AS before
),
oldest AS MATERIALIZED (
    SELECT to_timestamp(floor(extract(epoch FROM min(at)) / $3) * $3) AS at
    FROM "webhook".stats
    WHERE step = $2::integer AND at < (SELECT before FROM due)
),
taken AS (
    SELECT ctid
    FROM "webhook".stats
    WHERE step = $2 AND at >= (SELECT at FROM oldest)
        AND at < (SELECT at FROM oldest) + $3 * interval '1 second'
    ORDER BY tenant, endpoint_id
    LIMIT $5::bigint
)
DELETE FROM "webhook".stats AS stats
USING taken
WHERE stats.ctid = taken.ctid
RETURNING stats.at, stats.step, stats.tenant, stats.endpoint_id, stats.counts
