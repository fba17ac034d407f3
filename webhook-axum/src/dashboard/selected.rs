//! Says in words what a replay was asked to send again, and links to the deliveries that it made.

use webhook_core::{DeliveryFilter, Failure, FailureCause, Replay, ReplaySelection};

use super::deliveries::url_query;
use crate::caller::{Audience, Caller};
use crate::routes::endpoints::shown_url;

/// The conditions by name, as people read them.
pub(super) async fn conditions(
    caller: &Caller,
    selection: &ReplaySelection,
    tenant: Option<String>,
) -> Vec<(&'static str, String)> {
    let filter = as_filter(selection);
    let endpoint = match filter.endpoint_id {
        None => None,
        Some(id) => {
            let found = caller.endpoints().get(id).await;
            Some(found.map_or_else(|_| id.to_string(), |it| shown_url(&it.url)))
        }
    };
    let what = match selection {
        ReplaySelection::Deliveries(_) => "deliveries that have ended",
        ReplaySelection::Endpoint(_) => "all that its endpoint got or missed",
    };
    let mut named = vec![
        ("What", Some(what.to_owned())),
        ("Endpoint", endpoint),
        ("Tenant", tenant),
    ];
    named.extend(texts(&filter, caller.audience()));
    let given = named.into_iter();
    given
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
}

fn texts(
    filter: &DeliveryFilter,
    audience: Audience,
) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let errors = errors(&filter.error_kinds, audience);
    [
        ("Status", filter.status.map(|it| it.to_string())),
        ("Error", (!errors.is_empty()).then(|| errors.join(", "))),
        (
            "Whose failure",
            filter.cause.map(FailureCause::as_str).map(str::to_owned),
        ),
        (
            "Event type",
            filter.event_type.as_ref().map(ToString::to_string),
        ),
        ("Event", filter.event_id.map(|it| it.to_string())),
        ("Since", filter.since.map(|it| it.to_string())),
        ("Until", filter.until.map(|it| it.to_string())),
    ]
    .into_iter()
}

/// Each error as its reader may know it, once.
fn errors(kinds: &[String], audience: Audience) -> Vec<String> {
    let known = |kind: &String| kind.parse::<Failure>().map(|it| audience.failure(it));
    let mut errors: Vec<_> = kinds
        .iter()
        .map(|it| known(it).unwrap_or_else(|_| it.clone()))
        .collect();
    errors.dedup();
    errors
}

fn as_filter(selection: &ReplaySelection) -> DeliveryFilter {
    match selection {
        ReplaySelection::Deliveries(filter) => filter.clone(),
        ReplaySelection::Endpoint(of) => DeliveryFilter {
            endpoint_id: Some(of.endpoint_id),
            since: Some(of.since),
            until: of.until,
            status: of.status,
            ..DeliveryFilter::default()
        },
    }
}

/// The query of a list with what a replay has made, as far as a filter can tell: what else was made for these since its
/// start is there too.
pub(super) fn made(replay: &Replay) -> String {
    let filter = as_filter(&replay.selection);
    let start = replay.created_at.to_string();
    // As a field of a form takes it.
    let start = start.get(..19).unwrap_or(&start).to_owned();
    let given = [
        ("since", Some(start)),
        ("endpoint_id", filter.endpoint_id.map(|it| it.to_string())),
        ("event_id", filter.event_id.map(|it| it.to_string())),
        ("event_type", filter.event_type.map(|it| it.to_string())),
        ("tenant", replay.tenant.as_ref().map(ToString::to_string)),
    ];
    let given: Vec<_> = given
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text?)))
        .collect();
    url_query(given.iter().map(|(name, text)| (name, text)))
}
