//! Which addresses the engine may connect to, and the guard that enforces this.

mod blocklist;
mod cidr;
mod policy;
#[cfg(any(feature = "hyper", feature = "reqwest"))]
mod resolve;
#[cfg(any(feature = "hyper", feature = "reqwest"))]
mod system;

pub use cidr::{InvalidNetwork, Network};
pub use policy::{Blocked, NetworkPolicy, NetworkPolicyBuilder};
#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub use resolve::Resolve;
#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub(crate) use resolve::{Guard, LookupFailed};
#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub(crate) use system::NoPermit;
#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub use system::SystemResolver;
