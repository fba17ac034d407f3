//! Bulk replays: what each selects when it is started gets exactly one new delivery, whatever happens meanwhile.

use std::collections::BTreeSet;

use uuid::Uuid;
use webhook_core::{
    Delivery, DeliveryFilter, EventFilter, PageRequest, Replay, ReplaySelection, ReplayState,
    ReplayStep, Scope, Store as _,
};

use crate::ledger::Ledger;
use crate::world::{World, at_once};

/// An event that is to go to an endpoint again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected {
    event: Uuid,
    endpoint: Uuid,
    /// The last replay that there was.
    last: Option<u32>,
}

impl World {
    pub(crate) fn replay_started(&self, replay: &Replay) {
        let deliveries = self.all_deliveries();
        let selected = match &replay.selection {
            ReplaySelection::Deliveries(filter) => deliveries
                .iter()
                .filter(|it| it.status.is_final() && filter.matches(it))
                .filter(|it| last_of(&deliveries, it.event_id, it.endpoint_id) == Some(*it))
                .map(selected)
                .collect(),
            ReplaySelection::Endpoint(of) => self.of_endpoint(of.endpoint_id, replay, &deliveries),
        };
        self.note(|| format!("{} selects {selected:?}", replay.id));
        self.state().ledger.replays.insert(replay.id, selected);
    }

    fn of_endpoint(&self, id: Uuid, replay: &Replay, all: &[Delivery]) -> Vec<Selected> {
        let page = PageRequest::first(usize::MAX);
        let Some(endpoint) = at_once(self.store().endpoint(&Scope::All, id)) else {
            return Vec::new();
        };
        let scope = endpoint.tenant.clone().into();
        let events = at_once(self.store().events(&scope, &EventFilter::default(), page)).items;
        let in_time = events
            .iter()
            .filter(|it| it.created_at <= replay.created_at);
        in_time
            .filter_map(|event| match last_of(all, event.id, id) {
                None => Some(Selected {
                    event: event.id,
                    endpoint: id,
                    last: None,
                }),
                Some(last) => last.status.is_final().then(|| selected(last)),
            })
            .collect()
    }

    pub(crate) fn replay_stepped(&self, step: &ReplayStep) {
        let Some(replay) = &step.replay else {
            return;
        };
        for job in &step.jobs {
            let Some(made) = self.delivery(job.delivery) else {
                self.violate(format!(
                    "a replay made {}, which is not there",
                    job.delivery
                ));
                continue;
            };
            let mut state = self.state();
            let name = (replay.id, made.event_id, made.endpoint_id);
            let times = state.ledger.replayed.entry(name).or_default();
            *times += 1;
            if *times > 1 {
                state.violate(format!("{name:?} was made twice"));
            }
        }
        self.observe(step.jobs.iter().map(|job| job.delivery));
    }

    pub(crate) fn running_replays(&self) -> Vec<Uuid> {
        let page = PageRequest::first(usize::MAX);
        let replays = at_once(self.store().replays(&Scope::All, page)).items;
        let running = replays.iter().filter(|it| it.state == ReplayState::Running);
        running.map(|it| it.id).collect()
    }

    fn all_deliveries(&self) -> Vec<Delivery> {
        let (filter, page) = (DeliveryFilter::default(), PageRequest::first(usize::MAX));
        at_once(self.store().deliveries(&Scope::All, &filter, page)).items
    }
}

fn selected(delivery: &Delivery) -> Selected {
    Selected {
        event: delivery.event_id,
        endpoint: delivery.endpoint_id,
        last: Some(delivery.replay_no),
    }
}

fn last_of(all: &[Delivery], event: Uuid, endpoint: Uuid) -> Option<&Delivery> {
    let same = all
        .iter()
        .filter(|it| (it.event_id, it.endpoint_id) == (event, endpoint));
    same.max_by_key(|it| it.replay_no)
}

/// When all has come to rest.
pub(crate) fn judge(
    world: &World,
    deliveries: &[Delivery],
    endpoints: &BTreeSet<Uuid>,
    ledger: &Ledger,
) -> Result<(), String> {
    let mut numbers = BTreeSet::new();
    let number = |it: &Delivery| (it.event_id, it.endpoint_id, it.replay_no);
    if let Some(twin) = deliveries.iter().find(|it| !numbers.insert(number(it))) {
        return Err(format!("there are two of {twin:?}"));
    }
    for (id, selected) in &ledger.replays {
        let replay = at_once(world.store().replay(&Scope::All, *id));
        let replay = replay.ok_or_else(|| format!("the replay {id} is lost"))?;
        let of_replay = ledger.replayed.keys().filter(|(of, ..)| of == id);
        if of_replay.count() as u64 != replay.done {
            return Err(format!("{replay:?} has not counted what it made"));
        }
        if replay.state != ReplayState::Completed {
            continue;
        }
        let is_made = |it: &&Selected| {
            // Or somebody else was faster, or there is no endpoint any more.
            ledger.replayed.contains_key(&(*id, it.event, it.endpoint))
                || last_of(deliveries, it.event, it.endpoint).map(|last| last.replay_no) > it.last
                || !endpoints.contains(&it.endpoint)
        };
        if let Some(missing) = selected.iter().find(|it| !is_made(it)) {
            return Err(format!("{replay:?} has not made {missing:?}"));
        }
    }
    Ok(())
}
