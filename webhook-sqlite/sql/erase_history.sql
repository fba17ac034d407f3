DELETE FROM webhook_deliveries_history
WHERE id IN (
    SELECT id FROM webhook_deliveries_history AS ended
    WHERE tenant = ?1 AND id <= ?2
        AND NOT EXISTS (
            SELECT 1 FROM webhook_spared AS spared WHERE spared.tenant = ?1 AND spared.event_id = ended.event_id
        )
    ORDER BY id LIMIT +?3
)
