//! Compares what the receivers counted with what the store says.

use std::collections::{HashMap, HashSet};
use std::fmt;

use webhook_delivery::{
    Delivery, DeliveryFilter, DeliveryStatus, Dispatcher, EndReason, Endpoint, Event, PageRequest,
};

use crate::Result;
use crate::receiver::{Seen, Tally};
use crate::scenario::{ENDPOINTS, Expected};

/// A row for each endpoint, and whether each check holds.
pub(crate) struct Summary {
    rows: Vec<Row>,
    checks: Vec<(String, bool)>,
}

/// One endpoint: what the store says, and what its receiver counted.
struct Row {
    name: String,
    store: Expected,
    succeeded: usize,
    /// Events with a delivery that succeeded.
    events: usize,
    requests: usize,
    handled: usize,
}

impl Summary {
    /// Reads the store and compares.
    pub(crate) async fn compare(
        dispatcher: &Dispatcher,
        endpoints: &[Endpoint],
        events: &[Event],
        seen: &Seen,
    ) -> Result<Self> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        let mut same_ids = true;
        for endpoint in endpoints {
            let deliveries = deliveries_to(dispatcher, endpoint).await?;
            let name = endpoint.settings.description.clone();
            let tally = seen.get(&name);
            same_ids &= tally.is_some_and(|tally| tally.requests == requests_by_id(&deliveries));
            rows.push(Row::new(name, &deliveries, tally));
            all.extend(deliveries);
        }
        let checks = checks(&rows, &all, events, seen, same_ids);
        Ok(Self { rows, checks })
    }

    /// How many checks do not hold.
    pub(crate) fn differences(&self) -> usize {
        self.checks.iter().filter(|(_, holds)| !holds).count()
    }
}

fn checks(
    rows: &[Row],
    deliveries: &[Delivery],
    events: &[Event],
    seen: &Seen,
    same_ids: bool,
) -> Vec<(String, bool)> {
    let requests: usize = rows.iter().map(|row| row.requests).sum();
    let unverified: usize = seen.values().map(|tally| tally.unverified).sum();
    let handled = || seen.values().flat_map(|tally| &tally.handled);
    let stored: HashMap<_, _> = events
        .iter()
        .map(|event| (event.id.to_string(), &event.body))
        .collect();
    let same_bytes =
        handled().all(|(id, bodies)| bodies.iter().all(|body| stored.get(id) == Some(&body)));
    let dead = |one: &&Delivery| one.status == DeliveryStatus::Failed;
    let came_through = |dead: &Delivery| {
        deliveries.iter().any(|one| {
            (one.event_id, one.endpoint_id) == (dead.event_id, dead.endpoint_id)
                && one.replay_no > dead.replay_no
                && one.status == DeliveryStatus::Succeeded
        })
    };
    vec![
        (
            format!(
                "{} of {requests} requests carry a valid signature",
                requests - unverified
            ),
            requests > 0 && unverified == 0,
        ),
        (
            "every webhook-id is its event's, in all attempts and replays".to_owned(),
            same_ids,
        ),
        (
            "every body arrived byte for byte as it is stored".to_owned(),
            same_bytes,
        ),
        (
            "every delivered event was handled, and exactly once by each endpoint".to_owned(),
            handled().all(|(_, bodies)| bodies.len() == 1)
                && rows.iter().all(|row| row.handled == row.events),
        ),
        (
            "the receivers counted as many requests as the store has attempts".to_owned(),
            rows.iter().all(|row| row.requests == row.store.attempts),
        ),
        (
            "every delivery has ended".to_owned(),
            deliveries.iter().all(|one| one.status.is_final()),
        ),
        (
            "the dead letter's replay was delivered".to_owned(),
            deliveries.iter().filter(dead).count() == 1
                && deliveries.iter().filter(dead).all(came_through),
        ),
        (
            "deliveries, retries, dead letters and filters are as they should be".to_owned(),
            rows.iter()
                .map(|row| (row.name.as_str(), row.store))
                .eq(ENDPOINTS),
        ),
    ]
}

impl Row {
    fn new(name: String, deliveries: &[Delivery], tally: Option<&Tally>) -> Self {
        let is_success = |one: &Delivery| one.status == DeliveryStatus::Succeeded;
        let succeeded = deliveries.iter().filter(|one| is_success(one));
        let events: HashSet<_> = succeeded.map(|one| one.event_id).collect();
        let count = |wanted: &dyn Fn(&Delivery) -> bool| {
            deliveries.iter().filter(|one| wanted(one)).count()
        };
        Self {
            name,
            store: Expected {
                deliveries: deliveries.len(),
                attempts: requests_by_id(deliveries).values().sum(),
                retried: count(&|one| one.attempts > 1),
                dead: count(&|one| one.status == DeliveryStatus::Failed),
                filtered: count(&|one| one.end_reason == Some(EndReason::Filtered)),
            },
            succeeded: count(&is_success),
            events: events.len(),
            requests: tally.map_or(0, |tally| tally.requests.values().sum()),
            handled: tally.map_or(0, |tally| tally.handled.len()),
        }
    }
}

/// What a receiver must have counted: each event's id, as often as its deliveries were attempted.
fn requests_by_id(deliveries: &[Delivery]) -> HashMap<String, usize> {
    let mut requests = HashMap::new();
    for one in deliveries.iter().filter(|one| one.attempts > 0) {
        *requests.entry(one.event_id.to_string()).or_default() += one.attempts as usize;
    }
    requests
}

async fn deliveries_to(dispatcher: &Dispatcher, endpoint: &Endpoint) -> Result<Vec<Delivery>> {
    let filter = DeliveryFilter {
        endpoint_id: Some(endpoint.id),
        ..Default::default()
    };
    let page = PageRequest::first(100);
    Ok(dispatcher.deliveries().list(&filter, page).await?.items)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<14} {:^52} | {:^18}",
            "", "the store", "the receiver"
        )?;
        writeln!(
            f,
            "{:<14} {:>10} {:>9} {:>8} {:>8} {:>5} {:>8} | {:>8} {:>8}",
            "endpoint",
            "deliveries",
            "succeeded",
            "attempts",
            "retried",
            "dead",
            "filtered",
            "requests",
            "handled"
        )?;
        for row in &self.rows {
            row.fmt(f)?;
        }
        writeln!(f)?;
        for (check, holds) in &self.checks {
            writeln!(f, "{} {check}", if *holds { "ok     " } else { "DIFFERS" })?;
        }
        match self.differences() {
            0 => write!(f, "\nAll {} checks hold.", self.checks.len()),
            differences => {
                let checks = self.checks.len();
                write!(f, "\n{differences} of {checks} checks do not hold.")
            }
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            store,
            succeeded,
            requests,
            handled,
            ..
        } = self;
        let Expected {
            deliveries,
            attempts,
            retried,
            dead,
            filtered,
        } = store;
        writeln!(
            f,
            "/{name:<13} {deliveries:>10} {succeeded:>9} {attempts:>8} {retried:>8} {dead:>5} {filtered:>8} | {requests:>8} {handled:>8}"
        )
    }
}
