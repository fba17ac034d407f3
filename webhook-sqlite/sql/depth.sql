SELECT
    count(*) FILTER (WHERE leased = 0 AND due <= ?1) AS ready,
    count(*) FILTER (WHERE leased = 0 AND due > ?1) AS parked,
    count(*) FILTER (WHERE leased = 1) AS leased,
    min(due) FILTER (WHERE leased = 0) AS oldest_due
FROM webhook_deliveries
