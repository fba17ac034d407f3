//! Erasing tenants, page by page.

use std::time::Duration;

use uuid::Uuid;

use crate::tenant::Tenant;
use crate::time::Timestamp;

/// What a [`Store::step_erasure`](crate::Store::step_erasure) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasureStep {
    /// How many rows went.
    pub erased: u64,
    /// Whose erasure is over now.
    pub ended: Option<Tenant>,
    /// When the next step is due; `None` if no tenant is being erased.
    pub next_in: Option<Duration>,
}

impl ErasureStep {
    /// How long after the request a tenant is looked for once more: by then what was under way has ended, and what
    /// processes counted of it has been stored.
    pub const LINGER: Duration = Duration::from_secs(180);
}

/// The last id that can be made at this time: what is erased of a tenant goes up to that of the request.
#[must_use]
pub fn last_id(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_micros() / 1_000).unwrap_or(0);
    let mut bytes = [0xff; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}
