-- Lets the replays of these events go one after the other, to the end of the transaction; in one order, so that nobody
-- waits for each other. $1 events.
SELECT pg_advisory_xact_lock(lock.key)
FROM (
    SELECT DISTINCT hashtextextended('"webhook".replay ' || event, 0) AS key
    FROM unnest($1::uuid[]) AS event
    ORDER BY key
) AS lock
