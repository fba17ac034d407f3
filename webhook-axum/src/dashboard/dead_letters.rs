//! `/dashboard/dead-letters`: deliveries that were given up, by endpoint and cause.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use uuid::Uuid;
use webhook_core::{
    Delivery, DeliveryFilter, DeliveryStatus, EndReason, FailureCause, PageRequest,
    ReplaySelection, Timestamp,
};

use super::names::Names;
use super::shell::{PageError, Shell, page};
use crate::caller::{Audience, Caller};
use crate::page::MAX_LIMIT;
use crate::router::Api;

/// How many of the newest are grouped: opening the page costs the same however many there are.
const PAGES: usize = 5;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/dashboard/dead-letters", get(show))
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLetters {
    shell: Shell,
    groups: Vec<Group>,
    looked_at: usize,
    is_complete: bool,
    /// How many a replay of all would send, where they are few enough to ask each time.
    left: Option<u64>,
    /// How many it would not, of those.
    passed_over: u64,
}

/// Dead letters of one endpoint with one cause.
struct Group {
    endpoint_id: Uuid,
    url: Option<String>,
    /// What the last attempt failed with, or else why there is no more.
    error: String,
    cause: &'static str,
    /// A link's query for just these. Without a failed attempt they have no error by which a filter could tell them.
    query: Option<String>,
    count: usize,
    /// How many of them are replays themselves, which failed as well.
    replays: usize,
    newest: Timestamp,
}

async fn show(shell: Shell, caller: Caller) -> Result<Response, PageError> {
    let filter = DeliveryFilter {
        status: Some(DeliveryStatus::Failed),
        ..DeliveryFilter::default()
    };
    let (mut found, mut before) = (Vec::new(), None);
    for _ in 0..PAGES {
        let request = PageRequest {
            before,
            limit: MAX_LIMIT,
        };
        let next = caller.deliveries().list(&filter, request).await?;
        found.extend(next.items);
        before = next.next;
        if before.is_none() {
            break;
        }
    }
    let mut groups = grouped(&found, caller.audience());
    let names = Names::of(&caller, groups.iter().map(|it| it.endpoint_id)).await?;
    for group in &mut groups {
        group.url = names.url(&group.endpoint_id);
    }
    let is_complete = before.is_none();
    let left = if is_complete && !found.is_empty() {
        let all = ReplaySelection::Deliveries(filter);
        Some(caller.replays().count(&all).await?.deliveries)
    } else {
        None
    };
    Ok(page(&DeadLetters {
        shell,
        passed_over: left.map_or(0, |left| (found.len() as u64).saturating_sub(left)),
        left,
        groups,
        looked_at: found.len(),
        is_complete,
    }))
}

/// The largest group first.
fn grouped(dead: &[Delivery], audience: Audience) -> Vec<Group> {
    let mut groups = BTreeMap::new();
    for one in dead {
        let error = one.last_error.map(|it| audience.failure(it));
        let end = one.end_reason.map_or("", EndReason::as_str);
        let cause = one.cause().map_or("", FailureCause::as_str);
        let id = one.endpoint_id;
        let query = error.as_ref().map(|error| {
            format!("status=failed&endpoint_id={id}&error_kind={error}&cause={cause}")
        });
        let error = error.unwrap_or_else(|| end.to_owned());
        let group = groups
            .entry((id, error.clone(), query.clone(), cause))
            .or_insert_with(|| Group {
                endpoint_id: id,
                url: None,
                error,
                cause,
                query,
                count: 0,
                replays: 0,
                newest: one.updated_at,
            });
        group.count += 1;
        group.replays += usize::from(one.replay_no > 0);
        group.newest = group.newest.max(one.updated_at);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|it| std::cmp::Reverse(it.count));
    groups
}
