//! The HTTP API as its clients see it.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod audit;
mod bad_input;
mod deliveries;
mod endpoints;
mod event_types;
mod events;
mod lists;
#[cfg(feature = "prometheus")]
mod metrics;
mod mounting;
mod openapi;
mod outage;
mod replays;
mod stats;
mod support;
mod tenants;
mod walls;
