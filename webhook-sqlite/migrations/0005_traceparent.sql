-- By what its deliveries belong to the trace of whoever enqueued it: the W3C traceparent, if there was one.
ALTER TABLE webhook_events ADD COLUMN traceparent TEXT;
