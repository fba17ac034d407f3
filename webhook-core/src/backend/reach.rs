//! How much a backend reads to find one page of a list.

use crate::delivery::DeliveryStatus;
use crate::store::{DeliveryFilter, EventFilter};
use crate::tenant::Scope;

/// Rows that are looked at for a page: first few, as mostly they hold it, and at last all that one call may cost.
const ROWS: [usize; 2] = [2_000, 200_000];
/// The same where bodies are read.
const BODIES: [usize; 2] = [500, 20_000];

/// How many rows to look at for a page of these deliveries, and if those do not hold it, how many at most. Nothing if
/// all of the filter's conditions are ones by which an index finds rows: endpoint, event, `until`, and the
/// [`found_status`].
#[must_use]
pub fn reach_of_deliveries(scope: &Scope, filter: &DeliveryFilter) -> &'static [usize] {
    let is_sifted = filter.event_type.is_some()
        || !filter.error_kinds.is_empty()
        || filter.cause.is_some()
        || filter.since.is_some()
        || filter.status != found_status(scope, filter);
    match filter.event_id {
        None if is_sifted => &ROWS,
        _ => &[],
    }
}

/// The status by which rows are found, and not sifted: none of those that most have, and none within an endpoint or a
/// tenant, by whose indexes rows are found then.
#[must_use]
pub fn found_status(scope: &Scope, filter: &DeliveryFilter) -> Option<DeliveryStatus> {
    let is_first = filter.endpoint_id.is_none() && matches!(scope, Scope::All);
    filter.status.filter(|status| {
        let is_usual = matches!(
            status,
            DeliveryStatus::Succeeded | DeliveryStatus::Cancelled
        );
        is_first && !is_usual
    })
}

/// The same of events, which an index finds by their times.
#[must_use]
pub fn reach_of_events(filter: &EventFilter) -> &'static [usize] {
    match (&filter.text, &filter.event_type) {
        (Some(_), _) => &BODIES,
        (None, Some(_)) => &ROWS,
        (None, None) => &[],
    }
}
