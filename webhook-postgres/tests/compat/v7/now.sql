-- The store's time. $1 now or null.
SELECT coalesce($1::timestamptz, now())
