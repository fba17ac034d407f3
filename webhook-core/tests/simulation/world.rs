//! What all processes of a simulation share: its time, its dice, its backends, and what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use uuid::Uuid;
use webhook_core::{MemoryQueue, MemoryStore, Result, Timestamp};

use crate::ledger::Ledger;
use crate::scenario::Action;
use crate::transport::Manner;

/// When every simulation begins.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// The most calls at one instant: more are a loop that waits for nothing.
const MAX_CALLS_AT_ONCE: u32 = 20_000;

/// One side of a call: before it takes effect, or after it did and before its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Before,
    After,
}

/// What may happen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Delay,
    Failure,
    Crash,
}

/// An await point of a seam and what happened at it.
pub(crate) type Point = (&'static str, Side, Fault);

/// How likely what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weather {
    pub(crate) delay: f64,
    pub(crate) longest_delay: Duration,
    pub(crate) failure: f64,
    pub(crate) crash: f64,
    /// The call at which all of it is twenty times as likely.
    pub(crate) focus: Option<&'static str>,
}

impl Weather {
    pub(crate) const CALM: Self = Self {
        delay: 0.0,
        longest_delay: Duration::ZERO,
        failure: 0.0,
        crash: 0.0,
        focus: None,
    };
}

/// What a memory backend answers.
pub(crate) fn at_once<T>(answer: impl Future<Output = Result<T>>) -> T {
    answer.now_or_never().unwrap().unwrap()
}

/// The parts of a queue beside the store, which it loses one by one or together.
pub(crate) const QUEUE_PARTS: usize = 2;

/// Clones are the same world.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    store: MemoryStore,
    queue: Option<MemoryQueue>,
}

pub(crate) struct State {
    pub(crate) now: Timestamp,
    dice: Dice,
    pub(crate) weather: Weather,
    /// Until when the backends are away.
    pub(crate) away_until: Timestamp,
    pub(crate) ledger: Ledger,
    /// How each endpoint behaves.
    pub(crate) manners: BTreeMap<Uuid, Manner>,
    /// The bodies of events that were put in together.
    pub(crate) batches: Vec<Vec<String>>,
    /// Calls of clients that were not answered, and whose they are.
    pub(crate) open_calls: BTreeMap<u32, u32>,
    /// Requests under way.
    pub(crate) requests: u32,
    pub(crate) coverage: BTreeSet<Point>,
    /// What was broken first.
    pub(crate) violation: Option<String>,
    /// What happened, if somebody wants to know.
    pub(crate) trace: Option<Vec<String>>,
    agenda: BTreeMap<(Timestamp, u64), Entry>,
    entries: u64,
    calls_now: u32,
}

/// What happens at a time.
pub(crate) enum Entry {
    Wake(Waker),
    Act(Action),
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool, has_index: bool) -> Self {
        let state = State {
            now: START,
            dice: Dice(seed),
            weather: Weather::CALM,
            away_until: START,
            ledger: Ledger::default(),
            manners: BTreeMap::new(),
            batches: Vec::new(),
            open_calls: BTreeMap::new(),
            requests: 0,
            coverage: BTreeSet::new(),
            violation: None,
            trace: traced.then(Vec::new),
            agenda: BTreeMap::new(),
            entries: 0,
            calls_now: 0,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            store: MemoryStore::with_history(usize::MAX),
            queue: has_index.then(|| MemoryQueue::in_parts(QUEUE_PARTS)),
        }))
    }

    /// The store itself: what is done to it here meets no faults.
    pub(crate) fn store(&self) -> &MemoryStore {
        &self.0.store
    }

    pub(crate) fn queue(&self) -> Option<&MemoryQueue> {
        self.0.queue.as_ref()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state().now
    }

    /// A draw from 0..1.
    pub(crate) fn draw(&self) -> f64 {
        self.state().dice.draw()
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        (self.draw() * bound as f64) as usize
    }

    pub(crate) fn duration_below(&self, bound: Duration) -> Duration {
        bound.mul_f64(self.draw())
    }

    /// Notes what happened, if it is wanted.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        self.state().note(what);
    }

    /// Notes that a promise was broken.
    pub(crate) fn violate(&self, what: impl Into<String>) {
        self.state().violate(what);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.state().violation.is_some()
    }

    /// Lets `action` happen after `by`.
    pub(crate) fn schedule(&self, by: Duration, action: Action) {
        let mut state = self.state();
        let key = state.next_key(by);
        state.agenda.insert(key, Entry::Act(action));
    }

    /// Goes to the next time at which something happens, but not beyond `end`, and says what.
    pub(crate) fn next_entry(&self, end: Timestamp) -> Option<Entry> {
        let mut state = self.state();
        let first = state.agenda.first_entry().filter(|it| it.key().0 <= end);
        let Some((at, entry)) = first.map(|it| (it.key().0, it.remove())) else {
            state.now = state.now.max(end);
            return None;
        };
        if at > state.now {
            state.now = at;
            state.calls_now = 0;
        }
        Some(entry)
    }

    /// Returns when `by` has passed.
    pub(crate) fn delay(&self, by: Duration) -> Delay {
        Delay {
            until: self.now() + by,
            world: self.clone(),
            key: None,
        }
    }

    /// What happens at an await point, and how long it takes if it is a delay.
    pub(crate) fn fault(
        &self,
        point: (&'static str, Side),
        may_fail: bool,
    ) -> Option<(Fault, Duration)> {
        let mut state = self.state();
        state.calls_now += 1;
        if state.calls_now == MAX_CALLS_AT_ONCE {
            state.violate(format!("a loop without end, at {}", point.0));
        }
        let weather = state.weather;
        let risk = if weather.focus == Some(point.0) {
            40.0
        } else {
            1.0
        };
        let (crash, failure) = (weather.crash * risk, weather.failure * risk);
        let delay = (weather.delay * risk).min(0.8);
        let draw = state.dice.draw();
        let is_cut_off = may_fail
            && state.now < state.away_until
            && point.1 == Side::Before
            && !matches!(point.0, "send" | "ready");
        let fault = if draw < crash {
            Fault::Crash
        } else if is_cut_off || draw < crash + failure {
            Fault::Failure
        } else if draw < crash + failure + delay {
            Fault::Delay
        } else {
            return None;
        };
        if fault == Fault::Failure && !may_fail {
            return None;
        }
        // Short ones most of the time.
        let share = state.dice.draw().powi(6);
        state.coverage.insert((point.0, point.1, fault));
        Some((fault, weather.longest_delay.mul_f64(share)))
    }
}

impl State {
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let at = self.now.since(START);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.6} {}", at.as_secs_f64(), what()));
        }
    }

    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("BROKEN {what}"));
        self.violation.get_or_insert(what);
    }

    fn next_key(&mut self, by: Duration) -> (Timestamp, u64) {
        self.entries += 1;
        (self.now + by, self.entries)
    }
}

/// SplitMix64: without the optimiser it is much faster than the generators that one would else use.
struct Dice(u64);

impl Dice {
    /// A draw from 0..1.
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Waits for the world's time. From [`World::delay`].
pub(crate) struct Delay {
    world: World,
    until: Timestamp,
    key: Option<(Timestamp, u64)>,
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut state = world.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        let by = self.until.since(state.now);
        let key = *self.key.get_or_insert_with(|| state.next_key(by));
        let replaced = state.agenda.insert(key, Entry::Wake(cx.waker().clone()));
        // A waker may hold the last of its task: that is dropped after the lock.
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        let removed = self
            .key
            .and_then(|key| self.world.state().agenda.remove(&key));
        drop(removed);
    }
}
