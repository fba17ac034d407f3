//! Lanes, leases and delays in Redis: an index beside a store, which stays the truth.
