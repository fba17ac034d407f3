//! Events, endpoints, deliveries and attempts in one SQLite file, where the deliveries are the queue.
