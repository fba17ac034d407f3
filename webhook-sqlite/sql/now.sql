-- The pinned time, or this backend's clock, in µs.
SELECT coalesce(?1, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
