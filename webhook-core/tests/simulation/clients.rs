//! Those who call the engine, and judge what it answers.

use std::time::Duration;

use uuid::Uuid;
use webhook_core::{
    BatchError, DeliveryFilter, DeliveryStatus, Dispatcher, EndpointFilter, EndpointReplay,
    EndpointState, EnqueueError, Error, ErrorKind, EventFilter, ManageError, NewEvent, NewReplay,
    PageRequest, ReplaySelection, Scope, Store as _, Tenant,
};

use crate::scenario::{Action, BAD};
use crate::seams::SimStore;
use crate::world::{START, World, at_once};

/// Somebody in a process who makes one call.
pub(crate) struct Client {
    pub(crate) world: World,
    pub(crate) dispatcher: Dispatcher<SimStore>,
    pub(crate) number: u32,
    pub(crate) strict: bool,
}

impl Client {
    pub(crate) async fn call(self, action: Action) {
        match action {
            Action::Enqueue => self.enqueue().await,
            Action::EnqueueBatch => self.enqueue_batch().await,
            Action::EnqueueKeyed => self.enqueue_keyed().await,
            Action::Transaction => self.enqueue_in_transaction().await,
            Action::Cancel => self.cancel().await,
            Action::Replay => self.replay().await,
            Action::ReplayEvent => self.replay_event().await,
            Action::ReplayMany => self.replay_many().await,
            Action::Pause => self.pause().await,
            Action::Enable => self.enable().await,
            Action::Delete => self.delete().await,
            _ => {}
        }
        self.world.state().open_calls.remove(&self.number);
    }

    async fn enqueue(&self) {
        let is_bad = self.world.draw() < 0.1;
        let body = format!("{}{}", if is_bad { BAD } else { "" }, self.number);
        let mut event = self.event(body);
        if self.world.draw() < 0.1 {
            let later = self.world.duration_below(Duration::from_secs(10));
            event = event.deliver_at(self.world.now() + later);
        }
        match self.dispatcher.enqueue(event).await {
            Ok(id) if !is_bad => self.accepted(&[id]),
            Err(EnqueueError::Store(error)) => self.judge_error(&error, is_bad),
            other => self.world.violate(format!("enqueue answered {other:?}")),
        }
    }

    async fn enqueue_batch(&self) {
        let size = 2 + self.world.below(3);
        let bad = (self.world.draw() < 0.2).then(|| self.world.below(size));
        let body = |index| {
            format!(
                "{}batch {} {index}",
                if bad == Some(index) { BAD } else { "" },
                self.number
            )
        };
        let bodies: Vec<String> = (0..size).map(body).collect();
        let tenant = self.tenant();
        let new = |body: &String| {
            NewEvent::raw("work", body.clone())
                .unwrap()
                .tenant(tenant.clone())
        };
        let events = bodies.iter().map(new).collect();
        self.world.state().batches.push(bodies);
        match self.dispatcher.enqueue_batch(events).await {
            Ok(ids) if ids.len() == size && bad.is_none() => self.accepted(&ids),
            Err(BatchError::Store(error)) => self.judge_error(&error, bad.is_some()),
            other => self
                .world
                .violate(format!("enqueue_batch answered {other:?}")),
        }
    }

    /// With one of few keys, and one of two contents: again until the store has answered.
    async fn enqueue_keyed(&self) {
        let key = format!("key {}", self.world.below(6));
        let body = format!("{key} {}", u32::from(self.world.draw() < 0.2));
        for _ in 0..5 {
            let event = NewEvent::raw("work", body.clone())
                .unwrap()
                .idempotency_key(&key)
                .unwrap();
            let event = event.tenant(Tenant::new("a").unwrap());
            match self.dispatcher.enqueue(event).await {
                Ok(id) => {
                    self.judge_key(id, &body, true);
                    let mut state = self.world.state();
                    let ids = state.ledger.keys.entry(key).or_default();
                    ids.insert(id);
                    if ids.len() > 1 {
                        state.violate(format!("one key is two events, {id} is one of them"));
                    }
                    return drop(state);
                }
                Err(EnqueueError::IdempotencyConflict { event_id }) => {
                    return self.judge_key(event_id, &body, false);
                }
                Err(EnqueueError::Store(error)) => self.judge_error(&error, false),
                Err(other) => self.world.violate(format!("enqueue answered {other:?}")),
            }
            self.world.delay(Duration::from_millis(300)).await;
        }
    }

    fn judge_key(&self, id: Uuid, body: &str, is_same: bool) {
        let event = at_once(self.world.store().event(&Scope::All, id));
        if event.is_none_or(|event| (event.body == body) != is_same) {
            self.world
                .violate(format!("a key was said to stand for {id}"));
        }
    }

    async fn enqueue_in_transaction(&self) {
        let mut tx = self.world.store().begin();
        let mut ids = Vec::new();
        for index in 0..=self.world.below(2) {
            let event = self.event(format!("tx {} {index}", self.number));
            match self.dispatcher.enqueue_in(&mut tx, event).await {
                Ok(id) => ids.push(id),
                Err(EnqueueError::Store(error)) => return self.judge_error(&error, false),
                Err(other) => return self.world.violate(format!("enqueue_in answered {other:?}")),
            }
        }
        let work = self.world.duration_below(Duration::from_millis(1_500));
        self.world.delay(work).await;
        if self.world.draw() < 0.6 {
            tx.commit().unwrap();
            self.world.committed(&ids);
            self.accepted(&ids);
        }
    }

    async fn cancel(&self) {
        if let Some(id) = self.some_delivery() {
            let answer = self.dispatcher.deliveries().cancel(id).await;
            self.judge_managed(answer.err());
        }
    }

    async fn replay(&self) {
        if let Some(id) = self.some_delivery() {
            match self.dispatcher.deliveries().replay(id).await {
                Ok(id) if self.world.delivery(id).is_some() => {}
                Ok(id) => self
                    .world
                    .violate(format!("the replay {id} does not exist")),
                Err(error) => self.judge_managed(Some(error)),
            }
        }
    }

    async fn replay_event(&self) {
        let (filter, page) = (EventFilter::default(), PageRequest::first(50));
        let events = at_once(self.world.store().events(&Scope::All, &filter, page)).items;
        if !events.is_empty() {
            let id = events[self.world.below(events.len())].id;
            let answer = self.dispatcher.events().replay(id).await;
            self.judge_managed(answer.err());
        }
    }

    async fn replay_many(&self) {
        let selection = if self.world.draw() < 0.5 {
            ReplaySelection::Deliveries(DeliveryFilter {
                status: Some(DeliveryStatus::Failed),
                ..DeliveryFilter::default()
            })
        } else {
            ReplaySelection::Endpoint(EndpointReplay {
                endpoint_id: Uuid::from_u128(1 + self.world.below(4) as u128),
                since: START,
                until: None,
                status: None,
            })
        };
        let pace = 1 + self.world.below(20) as u32;
        let started = self
            .dispatcher
            .replays()
            .start(NewReplay::new(selection).pace(pace))
            .await;
        match started {
            Ok(replay) if self.world.draw() < 0.2 => {
                let time = self.world.duration_below(Duration::from_secs(2));
                self.world.delay(time).await;
                let cancelled = self.dispatcher.replays().cancel(replay.id).await;
                self.judge_managed(cancelled.err());
            }
            started => self.judge_managed(started.err()),
        }
    }

    async fn pause(&self) {
        let id = Uuid::from_u128(1 + self.world.below(4) as u128);
        self.set_state(id, EndpointState::Paused).await;
    }

    async fn enable(&self) {
        let page = PageRequest::first(50);
        let endpoints = at_once(self.world.store().endpoints(
            &Scope::All,
            &EndpointFilter::default(),
            page,
        ))
        .items;
        for endpoint in endpoints {
            if endpoint.state == EndpointState::Paused {
                self.set_state(endpoint.id, EndpointState::Enabled).await;
            }
        }
    }

    async fn set_state(&self, id: Uuid, state: EndpointState) {
        let endpoints = self.dispatcher.endpoints();
        let change = endpoints.update(id, |endpoint| {
            if endpoint.state != EndpointState::Disabled {
                endpoint.state = state;
            }
        });
        self.judge_managed(change.await.err());
    }

    async fn delete(&self) {
        let answer = self.dispatcher.endpoints().delete(Uuid::from_u128(2)).await;
        self.judge_managed(answer.err());
    }

    fn event(&self, body: String) -> NewEvent {
        NewEvent::raw("work", body).unwrap().tenant(self.tenant())
    }

    fn tenant(&self) -> Tenant {
        Tenant::new(["a", "b"][self.world.below(2)]).unwrap()
    }

    fn some_delivery(&self) -> Option<Uuid> {
        let (filter, page) = (DeliveryFilter::default(), PageRequest::first(50));
        let deliveries = at_once(self.world.store().deliveries(&Scope::All, &filter, page)).items;
        let chosen = (!deliveries.is_empty()).then(|| self.world.below(deliveries.len()));
        chosen.map(|index| deliveries[index].id)
    }

    fn accepted(&self, ids: &[Uuid]) {
        self.world.note(|| format!("accepted {ids:?}"));
        self.world.state().ledger.accepted.extend(ids);
    }

    fn judge_managed(&self, error: Option<ManageError>) {
        match error {
            None | Some(ManageError::NotFound(_) | ManageError::Conflict(_)) => {}
            Some(ManageError::Store(error)) => self.judge_error(&error, false),
            Some(other) => self.world.violate(format!("a call was answered {other:?}")),
        }
    }

    /// Only who is at fault may be refused, and nothing may fail where there are no faults.
    fn judge_error(&self, error: &Error, is_bad: bool) {
        let fair = match error.kind() {
            ErrorKind::Unavailable => !self.strict,
            ErrorKind::Rejected => is_bad,
            _ => false,
        };
        if !fair {
            self.world.violate(format!("a caller heard: {error}"));
        }
    }
}
