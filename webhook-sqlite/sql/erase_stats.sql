-- What was counted up to a time.
DELETE FROM webhook_stats
WHERE rowid IN (SELECT rowid FROM webhook_stats WHERE tenant = ?1 AND at <= ?2 LIMIT +?3)
