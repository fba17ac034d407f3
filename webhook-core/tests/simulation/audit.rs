//! The promises that can be judged only when all has come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;
use webhook_core::{
    Attempt, Delivery, DeliveryFilter, DeliveryStatus, EndReason, EndpointFilter, Event,
    EventFilter, Failure, Outcome, PageRequest, Scope, Store as _, Timestamp,
};

use crate::ledger::{Attempted, End, Ledger, Send};
use crate::scenario::{LEASE_MARGIN, LONG_TIMEOUT, Plan, SCHEDULE, TIMEOUT};
use crate::world::{World, at_once};

pub(crate) fn audit(world: &World, plan: &Plan) {
    let found = Found::of(world);
    let state = world.state();
    let ledger = &state.ledger;
    let judged = events(&found, ledger)
        .and_then(|()| batches(&found, &state.batches))
        .and_then(|()| fan_out(&found, ledger))
        .and_then(|()| {
            found
                .deliveries
                .iter()
                .try_for_each(|it| ends(it, &found, ledger))
        })
        .and_then(|()| crate::replays::judge(world, &found.deliveries, &found.endpoints, ledger))
        .and_then(|()| requests(&found, ledger, plan));
    drop(state);
    if let Err(what) = judged {
        world.violate(what);
    }
}

/// What the store holds in the end.
struct Found {
    events: Vec<Event>,
    deliveries: Vec<Delivery>,
    attempts: BTreeMap<Uuid, Vec<Attempt>>,
    endpoints: BTreeSet<Uuid>,
}

impl Found {
    fn of(world: &World) -> Self {
        let (store, all) = (world.store(), PageRequest::first(usize::MAX));
        let events = at_once(store.events(&Scope::All, &EventFilter::default(), all)).items;
        let whole = |listed: &Event| at_once(store.event(&Scope::All, listed.id));
        let deliveries =
            at_once(store.deliveries(&Scope::All, &DeliveryFilter::default(), all)).items;
        let endpoints = at_once(store.endpoints(&Scope::All, &EndpointFilter::default(), all));
        let attempts = |delivery: &Delivery| {
            (
                delivery.id,
                at_once(store.attempts(&Scope::All, delivery.id)),
            )
        };
        Self {
            events: events.iter().filter_map(whole).collect(),
            attempts: deliveries.iter().map(attempts).collect(),
            endpoints: endpoints.items.iter().map(|it| it.id).collect(),
            deliveries,
        }
    }
}

/// What was accepted is there, what was rolled back is not, and nothing is there twice.
fn events(found: &Found, ledger: &Ledger) -> Result<(), String> {
    let there: BTreeSet<Uuid> = found.events.iter().map(|it| it.id).collect();
    if let Some(id) = ledger.accepted.iter().find(|id| !there.contains(id)) {
        return Err(format!("{id} was accepted and is lost"));
    }
    if let Some(id) = ledger.open.keys().find(|id| there.contains(id)) {
        return Err(format!("{id} was rolled back and exists"));
    }
    if let Some(send) = ledger
        .sends
        .iter()
        .find(|send| !there.contains(&send.event))
    {
        return Err(format!("{} was sent and does not exist", send.event));
    }
    let mut bodies = BTreeSet::new();
    match found.events.iter().find(|it| !bodies.insert(&it.body)) {
        Some(event) => Err(format!("{} was stored twice", event.id)),
        None => Ok(()),
    }
}

fn batches(found: &Found, batches: &[Vec<String>]) -> Result<(), String> {
    let there: BTreeSet<&[u8]> = found.events.iter().map(|it| &it.body[..]).collect();
    for batch in batches {
        let stored = batch
            .iter()
            .filter(|it| there.contains(it.as_bytes()))
            .count();
        if stored != 0 && stored != batch.len() {
            return Err(format!("a part of a batch was stored: {batch:?}"));
        }
    }
    Ok(())
}

/// Every endpoint that took an event when it was stored has a delivery of it.
fn fan_out(found: &Found, ledger: &Ledger) -> Result<(), String> {
    let first = found.deliveries.iter().filter(|it| it.replay_no == 0);
    let made: BTreeSet<(Uuid, Uuid)> = first.map(|it| (it.event_id, it.endpoint_id)).collect();
    for (event, endpoints) in &ledger.stored {
        if let Some(endpoint) = endpoints.iter().find(|it| !made.contains(&(*event, **it))) {
            return Err(format!("{event} has no delivery to {endpoint}"));
        }
    }
    Ok(())
}

/// A delivery ended as what was logged of it demands.
fn ends(delivery: &Delivery, found: &Found, ledger: &Ledger) -> Result<(), String> {
    let log = &found.attempts[&delivery.id];
    let failures: Vec<Option<Failure>> = log.iter().map(|it| it.outcome.failure()).collect();
    let successes = failures.iter().filter(|it| it.is_none()).count();
    let last = failures.last();
    let fits = match (delivery.status, delivery.end_reason) {
        (DeliveryStatus::Succeeded, None) => successes == 1 && last == Some(&None),
        (DeliveryStatus::Failed, Some(EndReason::Exhausted)) => {
            // The last of them may be one of which the store takes nothing.
            let refused = usize::from(ledger.refused.contains(&delivery.id));
            let due = SCHEDULE.len() + 1;
            successes == 0 && (due - refused..=due).contains(&log.len())
        }
        (DeliveryStatus::Failed, Some(EndReason::Permanent)) => {
            successes == 0 && matches!(last, Some(Some(Failure::Status(400 | 410))))
        }
        (DeliveryStatus::Failed, Some(EndReason::Corrupt)) => {
            successes == 0
                && (ledger.refused.contains(&delivery.id)
                    || ledger.quarantined.contains(&delivery.id))
        }
        (DeliveryStatus::Cancelled, Some(EndReason::Requested)) => {
            ledger.cancelled.contains(&delivery.id)
        }
        (DeliveryStatus::Cancelled, Some(EndReason::EndpointDeleted)) => {
            !found.endpoints.contains(&delivery.endpoint_id)
        }
        // That nothing but what is parked is live, was judged before.
        (DeliveryStatus::Pending | DeliveryStatus::InProgress, None) => successes == 0,
        _ => false,
    };
    if fits && delivery.attempts as usize == log.len() {
        return Ok(());
    }
    Err(format!("{delivery:?} does not follow from {failures:?}"))
}

/// The attempt log and the network saw the same, but for outcomes that died with their process or were
/// refused.
fn requests(found: &Found, ledger: &Ledger, plan: &Plan) -> Result<(), String> {
    let mut sends: BTreeMap<Attempted, Vec<&Send>> = BTreeMap::new();
    for send in &ledger.sends {
        sends.entry(send.name()).or_default().push(send);
    }
    for delivery in &found.deliveries {
        for attempt in &found.attempts[&delivery.id] {
            let name = (delivery.event_id, delivery.endpoint_id, attempt.started_at);
            let same = sends.entry(name).or_default();
            let Some(index) = same
                .iter()
                .position(|send| is_logged(send, &attempt.outcome))
            else {
                return Err(format!(
                    "{:?} of {} was never sent",
                    attempt.outcome, delivery.id
                ));
            };
            same.remove(index);
        }
    }
    let unlogged: Vec<&Send> = sends.into_values().flatten().collect();
    match unlogged
        .into_iter()
        .find(|send| !may_be_unlogged(send, found, ledger, plan))
    {
        Some(send) => Err(format!("no outcome of {send:?} was recorded")),
        None => Ok(()),
    }
}

fn is_logged(send: &Send, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Response { status, .. } => send.answer == Some(*status),
        Outcome::Failed(_) => matches!(send.answer, None | Some(0)),
    }
}

/// Whether something that went wrong explains it.
fn may_be_unlogged(send: &Send, found: &Found, ledger: &Ledger, plan: &Plan) -> bool {
    let of_send = |it: &&Delivery| (it.event_id, it.endpoint_id) == (send.event, send.endpoint);
    let mut deliveries = found.deliveries.iter().filter(of_send);
    if ledger.fenced.contains(&send.name()) {
        return !plan.strict || deliveries.any(|it| it.status == DeliveryStatus::Cancelled);
    }
    if plan.strict {
        return false;
    }
    // How long an outcome may be on its way to the store, which is as long as its lease and a little more.
    let calls = 3 * plan.weather.longest_delay + Duration::from_secs(10);
    let (to_record, to_stop) = (
        LONG_TIMEOUT + LEASE_MARGIN + calls,
        LONG_TIMEOUT + TIMEOUT + calls,
    );
    let end = ledger.ends.get(&send.incarnation);
    let ended_within = |of: Timestamp, by| end.is_some_and(|(at, _)| at.since(of) < by);
    if end.is_some_and(|(_, how)| *how == End::Crashed) {
        return ended_within(send.started_at, to_record);
    }
    match ledger.not_recorded.get(&send.name()) {
        // An outcome of which nothing is taken ends its delivery. Others are kept while they may be of use.
        Some((lease_end, last_try, retryable)) => {
            let is_ended = |it: Delivery| {
                let fenced = ledger.fenced_leases.iter().any(|(id, _)| *id == it.id);
                it.status == DeliveryStatus::Failed || fenced
            };
            (!retryable && deliveries.cloned().any(is_ended))
                || last_try >= lease_end
                || ended_within(*last_try, to_stop)
        }
        None => ended_within(send.started_at, to_stop),
    }
}
