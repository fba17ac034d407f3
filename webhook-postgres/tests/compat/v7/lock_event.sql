-- Lets the replays of one event go one after the other, to the end of the transaction. $1 event.
SELECT pg_advisory_xact_lock(hashtextextended('"webhook".replay ' || $1::uuid, 0))
