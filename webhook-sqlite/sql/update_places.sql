-- The lane's order may have become another.
UPDATE webhook_deliveries
SET place = CASE ?2 WHEN 0 THEN due ELSE 0 END
WHERE endpoint_id = ?1 AND place <> CASE ?2 WHEN 0 THEN due ELSE 0 END
