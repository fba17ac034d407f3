//! Finds endpoints by their ids: their names, and whether they take deliveries.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use uuid::Uuid;
use webhook_core::{Endpoint, EndpointState, ManageError, PageRequest};

use super::format::pieces;
use crate::caller::Caller;
use crate::page::MAX_LIMIT;
use crate::routes::endpoints::shown_url;

/// How many pages of endpoints are read, before those that are on none of them are asked for one by one.
const LOOKS: usize = 5;
/// How many are asked for at once.
const AT_ONCE: usize = 4;

/// What a page says of the endpoints that it names.
#[derive(Default)]
pub(super) struct Names(BTreeMap<Uuid, (String, EndpointState)>);

impl Names {
    /// Of these, and of the newest. They are read by the page, so that what a list costs depends on how many endpoints
    /// there are, or on how many it names, whatever is less.
    pub(super) async fn of(
        caller: &Caller,
        ids: impl IntoIterator<Item = Uuid>,
    ) -> Result<Self, ManageError> {
        let mut wanted: BTreeSet<_> = ids.into_iter().collect();
        let (mut names, mut before) = (Self::default(), None);
        for _ in 0..LOOKS {
            let limit = MAX_LIMIT;
            let found = caller
                .endpoints()
                .list(PageRequest { before, limit })
                .await?;
            names.add(&found.items);
            // What is not on the page is older than all of it, or cannot be read.
            wanted = match found.next {
                Some(last) => wanted.into_iter().filter(|it| *it < last).collect(),
                None => BTreeSet::new(),
            };
            let Some(newest) = wanted.last() else {
                return Ok(names);
            };
            before = Some(Uuid::from_u128(newest.as_u128().saturating_add(1)));
        }
        names.add_each(caller, wanted).await;
        Ok(names)
    }

    /// Of the one that a page is about.
    pub(super) fn just(endpoint: Option<&Endpoint>) -> Self {
        let mut names = Self::default();
        names.add(endpoint);
        names
    }

    pub(super) fn add<'a>(&mut self, endpoints: impl IntoIterator<Item = &'a Endpoint>) {
        let named = |it: &Endpoint| (it.id, (shown_url(&it.url), it.state));
        self.0.extend(endpoints.into_iter().map(named));
    }

    /// Those of these that it does not know yet, few at a time: deliveries need connections, too. What cannot be read goes
    /// without a name.
    pub(super) async fn add_each(&mut self, caller: &Caller, ids: impl IntoIterator<Item = Uuid>) {
        let unknown = ids.into_iter().filter(|id| !self.0.contains_key(id));
        let unknown: Vec<_> = unknown.collect();
        let endpoints = caller.endpoints();
        let read = |id: &Uuid| endpoints.get(*id);
        for some in unknown.chunks(AT_ONCE) {
            let found = join_all(some.iter().map(read)).await;
            self.add(found.iter().flatten());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An endpoint's URL, or the id of one that is gone.
    pub(super) fn of_id(&self, id: &Uuid) -> String {
        self.url(id).unwrap_or_else(|| id.to_string())
    }

    /// The same in pieces between which a line may end.
    pub(super) fn pieces_of_id(&self, id: &Uuid) -> Vec<String> {
        pieces(&self.of_id(id))
    }

    /// An endpoint's URL, if it is there.
    pub(super) fn url(&self, id: &Uuid) -> Option<String> {
        self.0.get(id).map(|(url, _)| url.clone())
    }

    /// Whether an endpoint takes anything, if it is there.
    pub(super) fn state(&self, id: &Uuid) -> Option<EndpointState> {
        self.0.get(id).map(|(_, state)| *state)
    }
}
