-- What a connection says about itself.
SELECT journal_mode, synchronous, timeout
FROM pragma_journal_mode, pragma_synchronous, pragma_busy_timeout
