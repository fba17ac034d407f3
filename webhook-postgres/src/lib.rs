//! Events, endpoints, deliveries and attempts in Postgres, where the deliveries are the queue.
