//! Says on the overview that the store is away, and since when.

use std::sync::{Mutex, PoisonError};

use askama::Template;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use webhook_core::Timestamp;

use super::shell::{Shell, page_with};
use crate::caller::Caller;

/// In how many seconds the page asks for itself again where no script does.
const RETRY: u32 = 10;

/// Since when the store does not answer, as far as anybody has looked.
#[derive(Default)]
pub(super) struct Outage(Mutex<Option<Timestamp>>);

impl Outage {
    /// The store does not answer now. Answers since when.
    pub(super) fn goes_on(&self, now: Timestamp) -> Timestamp {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since.get_or_insert(now)
    }

    pub(super) fn is_over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[derive(Template)]
#[template(path = "away.html")]
struct AwayPage {
    shell: Shell,
    retry: u32,
    since: Timestamp,
    queue: bool,
    /// Whether this process would deliver.
    delivers: bool,
}

/// What is known without the store.
pub(super) fn page(shell: Shell, caller: &Caller, outage: &Outage, queue: bool) -> Response {
    let template = AwayPage {
        shell,
        retry: RETRY,
        since: outage.goes_on(caller.now()),
        queue,
        delivers: caller.dispatcher().is_running(),
    };
    let mut response = page_with(StatusCode::SERVICE_UNAVAILABLE, &template);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY));
    response
}
