-- How many endpoints a tenant has, counted up to ?2.
SELECT count(*) FROM (SELECT 1 FROM webhook_endpoints WHERE tenant = ?1 LIMIT +?2)
