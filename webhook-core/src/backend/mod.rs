//! For those who write a backend: the forms in which values are stored.
//!
//! A backend keeps most of a row in columns of its own. What would otherwise be spelled anew by each of them,
//! and in time differently, is here: [`EndpointRow`], [`AttemptRow`] and [`ReplayRow`] say how the rest is written, and
//! read it back with every rule checked again. [`Encryption`] seals the secrets among it. [`HealthRow`] is what is
//! kept of an endpoint in trouble, and says what becomes of it. [`reach_of_deliveries`] says how far back a list looks.

mod reach;
mod stored;

pub use crate::encryption::Encryption;
pub use crate::erasure::last_id;
pub use crate::health::{Applied, HealthRow, LaneChange};
pub use reach::{found_status, reach_of_deliveries, reach_of_events};
pub use stored::{AttemptRow, EndpointRow, Opened, ReplayRow};
