pub trait Harness {}
pub trait TxHarness {}
pub fn endpoint_for() {}
pub fn event_for() {}
pub mod queue {}
pub mod store {}
pub mod tx {}
