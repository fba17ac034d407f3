-- 100,000 jobs of the endpoint ?1, due at ?2.
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number LIMIT 100000)
INSERT INTO webhook_deliveries
    (id, event_id, endpoint_id, replay_no, tenant, event_type, due, first_due, place, created_at, updated_at)
SELECT randomblob(16), randomblob(16), ?1, 0, 'parked', 'a', ?2, ?2, ?2, ?2, ?2 FROM number
