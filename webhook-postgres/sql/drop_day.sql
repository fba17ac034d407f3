-- Drops the partitions of a day, and moves what of it is needed to the default ones, unless that is too much. Answers
-- how many were dropped and moved, or nulls if others were in the way. $1 the day, $2 what ended before may go; the most
-- that moves: $3 rows of a kind, $4 bytes; $5 up to which size of the default partitions.
SELECT dropped, moved FROM webhook.drop_day($1::timestamptz, $2::timestamptz, $3::integer, $4::bigint, $5::bigint)
