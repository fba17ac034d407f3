//! What a seed stands for: endpoints, processes, weather, and what is done to them and when.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use webhook_core::{
    BreakerPolicy, Dispatcher, Endpoint, EndpointSecret, EndpointSettings, EndpointState, Event,
    NewEvent, Notice, Queue, RateLimit, RetryPolicy, Scope, Secret, Store as _, Tenant,
};

use crate::clients::Client;
use crate::ledger::End;
use crate::process::{Gate, Process, Turn};
use crate::seams::{Seam, SimClock, SimQueue, SimStore};
use crate::transport::{IdOnly, Manner, SimTransport};
use crate::world::{Entry, QUEUE_PARTS, START, Weather, World, at_once};

/// The deadline of an attempt, and of one to an endpoint with a longer one.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const LONG_TIMEOUT: Duration = Duration::from_secs(10);
/// What the engine adds to them to get a lease.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(15);
/// The delays between attempts.
pub(crate) const SCHEDULE: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Longer than the leases.
const LONGEST_OUTAGE: Duration = Duration::from_secs(30);
/// How long all may take to end after the last fault.
const TO_REST: Duration = Duration::from_secs(1_200);
/// How soon an idle engine takes up what is due: far sooner than it polls.
const WAKE_UP: Duration = Duration::from_millis(100);
/// The calls at which a seed may have more faults than elsewhere.
pub(crate) const CALLS: [&str; 20] = [
    "insert_events",
    "insert_events.batch",
    "insert_events_in",
    "load",
    "record.one",
    "record.many",
    "jobs",
    "unqueued",
    "overdue",
    "fills",
    "put_fills",
    "push",
    "claim",
    "extend",
    "settle",
    "settle.unused",
    "hold",
    "step_replay",
    "parts",
    "clock.sleep",
];

/// One that opens often, and for no longer than stories last.
fn breaker() -> BreakerPolicy {
    let second = Duration::from_secs(1);
    BreakerPolicy::default()
        .failures_in_a_row(4)
        .failure_rate(0.5, 10, second * 60)
        .open_for(second, second)
}

/// The text that begins the body of an event which the store refuses.
pub(crate) const BAD: &str = "bad";

pub(crate) fn is_bad(event: &Event) -> bool {
    event.body.starts_with(BAD.as_bytes())
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Start(usize),
    Stop,
    Crash,
    /// A process stands still for longer than its leases, as one whose machine is suspended.
    Stall,
    Resume(usize),
    Erase,
    Outage,
    Enqueue,
    EnqueueBatch,
    EnqueueKeyed,
    Transaction,
    Cancel,
    Replay,
    ReplayEvent,
    /// Dead letters, or what an endpoint was to get.
    ReplayMany,
    Pause,
    /// All that are paused.
    Enable,
    Delete,
}

/// What is the same all through a seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Without faults: no attempt may be made twice, and nothing may fail.
    pub(crate) strict: bool,
    has_index: bool,
    pub(crate) weather: Weather,
    mishaps: usize,
    slots: usize,
    max_in_flight: usize,
    length: Duration,
    ahead: Duration,
}

impl Plan {
    fn draw(seed: u64) -> Self {
        let dice = World::new(!seed, false, false);
        let millis = Duration::from_millis;
        let weather = |longest_delay, failure, crash| Weather {
            delay: if longest_delay > 10_000 { 0.1 } else { 0.3 },
            longest_delay: millis(longest_delay),
            failure,
            crash,
            focus: (dice.draw() < 0.5).then(|| CALLS[dice.below(CALLS.len())]),
        };
        let weather = match seed % 8 {
            0 => weather(5, 0.0, 0.0),
            1 => weather(200, 0.0, 0.0),
            2 => weather(20, 0.05, 0.0),
            3 => weather(20, 0.0, 0.004),
            4 => weather(3_000, 0.02, 0.002),
            // Longer than the leases.
            5 => weather(90_000, 0.01, 0.001),
            6 => weather(50, 0.3, 0.002),
            _ => weather(300, 0.02, 0.004),
        };
        let strict = seed % 8 < 2;
        Self {
            seed,
            strict,
            has_index: dice.draw() < 0.5,
            weather,
            mishaps: if strict { 0 } else { dice.below(5) },
            slots: [1, 1, 2, 2, 3][dice.below(5)],
            max_in_flight: 1 + dice.below(10),
            length: millis(5_000 + dice.below(if seed % 8 == 5 { 60_000 } else { 20_000 }) as u64),
            ahead: if dice.draw() < 0.3 {
                dice.duration_below(millis(200))
            } else {
                Duration::ZERO
            },
        }
    }
}

/// A seed as it runs.
pub(crate) struct Simulation {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    slots: Vec<Option<Process>>,
    incarnations: u32,
    clients: u32,
    calm: bool,
}

/// The endpoint that wake-ups are measured with.
const PROBE: Uuid = Uuid::from_u128(99);

impl Simulation {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let plan = Plan::draw(seed);
        let world = World::new(seed, traced, plan.has_index);
        world.note(|| format!("{plan:?}"));
        let slots = (0..plan.slots).map(|_| None).collect();
        Self {
            world,
            plan,
            slots,
            incarnations: 0,
            clients: 0,
            calm: false,
        }
    }

    /// From the first event to the last judgement.
    pub(crate) fn run(&mut self) {
        self.furnish();
        self.schedule();
        self.world.state().weather = self.plan.weather;
        self.drive(self.plan.length);
        self.come_to_rest();
        for round in 0..3 {
            self.probe(round);
        }
        self.stop_all();
        if !self.world.is_broken() {
            crate::audit::audit(&self.world, &self.plan);
        }
    }

    /// Creates the endpoints.
    fn furnish(&self) {
        use Manner::{Busy, Down, Flaky, Gone, Good, Hung, Odd, Picky, Slow, Unreadable};
        let manners = if self.plan.strict {
            &[Good, Flaky, Down, Gone, Slow, Busy, Hung, Picky][..]
        } else {
            &[
                Good, Flaky, Down, Gone, Slow, Busy, Hung, Picky, Odd, Unreadable,
            ][..]
        };
        self.create(Uuid::from_u128(1), "a", Good, EndpointSettings::default());
        for number in 2..5 + self.world.below(3) {
            let manner = manners[self.world.below(manners.len())];
            let tenant = ["a", "b"][self.world.below(2)];
            let settings = EndpointSettings {
                ordered: self.world.draw() < 0.2,
                max_in_flight: (self.world.draw() < 0.3).then_some(1 + number as u32 % 3),
                timeout: (!self.plan.strict && self.world.draw() < 0.3).then_some(LONG_TIMEOUT),
                rate_limit: (self.world.draw() < 0.1).then_some(RateLimit {
                    limit: 5,
                    per: Duration::from_secs(1),
                }),
                ..EndpointSettings::default()
            };
            self.create(Uuid::from_u128(number as u128), tenant, manner, settings);
        }
        let probed = EndpointSettings {
            event_types: vec!["probe".parse().unwrap()],
            ..EndpointSettings::default()
        };
        self.create(PROBE, "probe", Manner::Probe, probed);
    }

    fn create(&self, id: Uuid, tenant: &str, manner: Manner, settings: EndpointSettings) {
        let endpoint = Endpoint {
            id,
            tenant: Tenant::new(tenant).unwrap(),
            url: format!("https://hooks.example.com/{id}").parse().unwrap(),
            settings,
            secrets: vec![EndpointSecret {
                secret: Secret::from_bytes(&[7; 32]).unwrap(),
                expires_at: None,
            }],
            state: EndpointState::Enabled,
            state_reason: None,
            version: 1,
            created_at: START,
            updated_at: START,
        };
        self.world
            .note(|| format!("{tenant}'s {id}: {manner:?}, {:?}", endpoint.lane_limits()));
        self.world.state().manners.insert(id, manner);
        at_once(self.world.store().insert_endpoint(&endpoint, usize::MAX));
    }

    /// Draws what happens when.
    fn schedule(&self) {
        use Action::{
            Cancel, Crash, Delete, Enable, Enqueue, EnqueueBatch, EnqueueKeyed, Erase, Outage,
            Pause, Replay, ReplayEvent, ReplayMany, Stall, Start, Stop, Transaction,
        };
        let at_any_time = |action| {
            let by = self.world.duration_below(self.plan.length);
            self.world.schedule(by, action);
        };
        for slot in 0..self.plan.slots {
            self.world.schedule(Duration::ZERO, Start(slot));
        }
        for _ in 0..6 + self.world.below(14) {
            at_any_time(match self.world.below(17) {
                0..7 => Enqueue,
                7 => EnqueueBatch,
                8 | 9 => EnqueueKeyed,
                10 | 11 => Transaction,
                12 => Cancel,
                13 => Replay,
                14 => ReplayEvent,
                15 => Pause,
                _ => Enable,
            });
        }
        if self.world.draw() < 0.1 {
            at_any_time(Delete);
        }
        for _ in 0..self.world.below(4) {
            at_any_time(ReplayMany);
        }
        if self.world.draw() < 0.5 {
            at_any_time(Stop);
        }
        for _ in 0..self.plan.mishaps {
            at_any_time([Crash, Stall, Erase, Outage][self.world.below(4)]);
        }
    }

    /// Lets `by` pass.
    fn drive(&mut self, by: Duration) {
        let end = self.world.now() + by;
        self.take_turns();
        while !self.world.is_broken()
            && let Some(entry) = self.world.next_entry(end)
        {
            match entry {
                Entry::Wake(waker) => waker.wake(),
                Entry::Act(action) => self.act(action),
            }
            self.take_turns();
        }
    }

    /// Lets the processes go on until all of them wait.
    fn take_turns(&mut self) {
        while !self.world.is_broken()
            && let Some(slot) = self
                .slots
                .iter()
                .position(|it| it.as_ref().is_some_and(Process::is_awake))
        {
            let turn = self.slots[slot].as_ref().map(Process::take_turn);
            match turn {
                Some(Turn::Crashed) => self.end(slot, End::Crashed),
                Some(Turn::Stopped) => self.end(slot, End::Stopped),
                Some(Turn::Idle) | None => {}
            }
        }
    }

    fn end(&mut self, slot: usize, how: End) {
        let Some(process) = self.slots[slot].take() else {
            return;
        };
        let incarnation = process.incarnation;
        {
            let mut state = self.world.state();
            let now = state.now;
            state.note(|| format!("#{incarnation}: {how:?}"));
            state.ledger.ends.insert(incarnation, (now, how));
            if how == End::Stopped && self.plan.strict {
                let left = state.ledger.owned_by(incarnation, now);
                if !left.is_empty() {
                    state.violate(format!("#{incarnation} stopped and kept {left:?}"));
                }
            }
        }
        drop(process);
        if !self.calm {
            let pause = self.world.duration_below(Duration::from_secs(3));
            self.world.schedule(pause, Action::Start(slot));
        }
    }

    fn start(&mut self, slot: usize) {
        if self.slots[slot].is_some() {
            return;
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        self.world.note(|| format!("#{incarnation} starts"));
        self.slots[slot] = Some(Process::start(incarnation, |gate| {
            self.dispatcher(slot, gate)
        }));
    }

    fn resume(&mut self, slot: usize) {
        self.slots[slot]
            .iter_mut()
            .for_each(|it| it.is_stalled = false);
    }

    fn dispatcher(&self, slot: usize, gate: Arc<Gate>) -> Dispatcher<SimStore> {
        let seam = Seam {
            world: self.world.clone(),
            incarnation: self.incarnations,
            ahead: self.plan.ahead * u32::try_from(slot).unwrap(),
            gate,
        };
        let world = self.world.clone();
        let mut builder = Dispatcher::builder(SimStore(seam.clone()))
            .transport(SimTransport(seam.clone()))
            .clock(SimClock(seam.clone()))
            .signer(IdOnly)
            .seed(self.plan.seed * 1_000 + u64::from(self.incarnations))
            .max_in_flight(self.plan.max_in_flight)
            .request_timeout(TIMEOUT)
            .retry_policy(RetryPolicy::default().schedule(SCHEDULE))
            .breaker(breaker())
            .observer(move |notice: &Notice<'_>| {
                if let Notice::Delivered(report) = notice {
                    world.told(report.delivery_id);
                }
            });
        if let Some(queue) = self.world.queue() {
            let queue: Arc<dyn Queue> = Arc::new(queue.clone());
            builder = builder.queue(SimQueue::new(seam, queue));
        }
        builder.build().unwrap()
    }

    fn act(&mut self, action: Action) {
        self.world.note(|| format!("{action:?}"));
        match action {
            Action::Start(slot) => return self.start(slot),
            Action::Resume(slot) => return self.resume(slot),
            Action::Erase => {
                if let Some(queue) = self.world.queue() {
                    match self.world.below(QUEUE_PARTS + 1) {
                        QUEUE_PARTS => queue.erase(),
                        part => queue.erase_part(part),
                    }
                    self.world.erased();
                }
                return;
            }
            Action::Outage => {
                let end = self.world.now() + self.world.duration_below(LONGEST_OUTAGE);
                self.world.state().away_until = end;
                return;
            }
            _ => {}
        }
        let Some(slot) = self.somebody() else {
            return;
        };
        match action {
            Action::Crash => self.end(slot, End::Crashed),
            Action::Stop => self.slots[slot].iter_mut().for_each(Process::stop),
            Action::Stall => {
                let time = TIMEOUT + LEASE_MARGIN + self.world.duration_below(TIMEOUT);
                self.world.schedule(time, Action::Resume(slot));
                self.slots[slot]
                    .iter_mut()
                    .for_each(|it| it.is_stalled = true);
            }
            _ => self.ask(slot, action),
        }
    }

    /// A process that takes calls.
    fn somebody(&self) -> Option<usize> {
        let first = self.world.below(self.slots.len());
        let all = (first..self.slots.len()).chain(0..first);
        let takes_calls = |slot: &usize| {
            let process = self.slots[*slot].as_ref();
            process.is_some_and(|it| !it.is_stopping() && !it.is_stalled)
        };
        all.into_iter().find(takes_calls)
    }

    /// Lets a client of a process call it.
    fn ask(&mut self, slot: usize, action: Action) {
        let Some(process) = &self.slots[slot] else {
            return;
        };
        let callers = if matches!(action, Action::Enqueue | Action::EnqueueKeyed) {
            1 + self.world.below(5)
        } else {
            1
        };
        for _ in 0..callers {
            self.clients += 1;
            let client = Client {
                world: self.world.clone(),
                dispatcher: process.dispatcher.clone(),
                number: self.clients,
                strict: self.plan.strict,
            };
            let incarnation = process.incarnation;
            self.world
                .state()
                .open_calls
                .insert(self.clients, incarnation);
            process.spawn(client.call(action));
        }
    }

    /// After the last fault everything must end, as far as its endpoint lets it.
    fn come_to_rest(&mut self) {
        self.world.state().weather = Weather::CALM;
        self.world.state().away_until = START;
        self.calm = true;
        (0..self.slots.len()).for_each(|slot| self.resume(slot));
        let end = self.world.now() + TO_REST;
        // The delays that have begun.
        self.drive(self.plan.weather.longest_delay);
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_none_or(Process::is_stopping) {
                self.drive(TIMEOUT + LONG_TIMEOUT);
                self.start(slot);
            }
        }
        self.enable_paused();
        while !self.world.is_broken() && !self.is_at_rest() {
            if self.world.now() > end {
                let (left, calls) = (self.unfinished(), self.waiting_calls());
                let replays = self.world.running_replays();
                self.world.violate(format!(
                    "these never end: {left:?}, the calls {calls:?}, and the replays {replays:?}"
                ));
            }
            self.drive(Duration::from_secs(1));
        }
    }

    fn is_at_rest(&self) -> bool {
        self.world.state().requests == 0
            && self.unfinished().is_empty()
            && self.waiting_calls().is_empty()
            && self.world.running_replays().is_empty()
    }

    /// Calls of clients whose process lives, and which were not answered.
    fn waiting_calls(&self) -> Vec<u32> {
        let state = self.world.state();
        let lives = |incarnation: &u32| !state.ledger.ends.contains_key(incarnation);
        let waiting = state
            .open_calls
            .iter()
            .filter(|(_, incarnation)| lives(incarnation));
        waiting.map(|(number, _)| *number).collect()
    }

    /// Live deliveries that nothing parks.
    pub(crate) fn unfinished(&self) -> Vec<Uuid> {
        let live = at_once(self.world.store().unqueued(None, usize::MAX));
        let is_parked = |lane: Uuid| {
            let endpoint = at_once(self.world.store().endpoint(&Scope::All, lane));
            endpoint.is_none_or(|it| it.state == EndpointState::Disabled)
        };
        live.into_iter()
            .filter(|job| !is_parked(job.lane))
            .map(|job| job.delivery)
            .collect()
    }

    /// What was paused is enabled again, as a person does it.
    fn enable_paused(&mut self) {
        if let Some(slot) = self.somebody() {
            self.ask(slot, Action::Enable);
        }
    }

    /// An event that comes when all is idle must go out at once, and its retry when it is due: the poll
    /// that finds it a second later is no excuse.
    fn probe(&mut self, round: u64) {
        let phase = self.world.duration_below(Duration::from_secs(1));
        self.drive(phase);
        let Some(slot) = self.somebody().filter(|_| !self.world.is_broken()) else {
            return;
        };
        let process = self.slots[slot].as_ref().unwrap();
        let (world, dispatcher) = (self.world.clone(), process.dispatcher.clone());
        let event = NewEvent::raw("probe", format!("probe {round}")).unwrap();
        let event = event.tenant(Tenant::new("probe").unwrap());
        self.world.note(|| "a probe".to_owned());
        process.spawn(async move {
            if round == 1 {
                let mut tx = world.store().begin();
                let id = dispatcher.enqueue_in(&mut tx, event).await.unwrap();
                world.delay(WAKE_UP / 2).await;
                tx.commit().unwrap();
                world.committed(&[id]);
            } else {
                dispatcher.enqueue(event).await.unwrap();
            }
        });
        let wanted = |world: &World, sends| {
            let state = world.state();
            state
                .ledger
                .sends
                .iter()
                .filter(|it| it.endpoint == PROBE)
                .count()
                == sends
        };
        let sent = 2 * usize::try_from(round).unwrap();
        self.drive(WAKE_UP / 2 + WAKE_UP);
        if !wanted(&self.world, sent + 1) {
            return self
                .world
                .violate("an idle engine did not take up at once what was due");
        }
        let parked = at_once(self.world.store().unqueued(None, usize::MAX));
        let retry = parked
            .iter()
            .find(|job| job.lane == PROBE)
            .map(|job| job.due);
        let Some(due) = retry else {
            return self.world.violate("a probe has no retry");
        };
        let wait = due.since(self.world.now());
        self.drive(wait + WAKE_UP);
        if !wanted(&self.world, sent + 2) {
            self.world
                .violate("an idle engine did not take up a retry when it was due");
        }
    }

    /// A shutdown ends in bounded time, and leaves nothing behind.
    fn stop_all(&mut self) {
        self.slots.iter_mut().flatten().for_each(Process::stop);
        self.drive(TIMEOUT + LONG_TIMEOUT);
        if !self.world.is_broken() && self.slots.iter().any(Option::is_some) {
            self.world.violate("a shutdown does not end");
        }
    }
}
