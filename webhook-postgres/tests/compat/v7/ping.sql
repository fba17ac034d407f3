-- Whether the server takes writes: a replica does not, nor does a primary that was told to stop.
SELECT current_setting('transaction_read_only') = 'off' AS is_writable
