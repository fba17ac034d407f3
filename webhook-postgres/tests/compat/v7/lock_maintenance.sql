-- Lets one process at a time do the housekeeping, to the end of its transaction. Answers whether it is this.
SELECT pg_try_advisory_xact_lock(hashtextextended('"webhook".maintenance', 0))
