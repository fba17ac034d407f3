-- Makes room for the days ahead, and answers how many partitions were made. $1 now or null, $2 for how many days.
SELECT "webhook".make_partitions(coalesce($1::timestamptz, now()), $2::integer) AS made
