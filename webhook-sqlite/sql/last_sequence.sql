SELECT coalesce(max(sequence), 0) FROM webhook_deliveries
