//! [`Dispatcher`]: what a host holds.
//!
//! The files, in the order in which an event passes them:
//! - `builder.rs` builds a dispatcher.
//! - `enqueue.rs` accepts events; concurrent calls share an insert. `locked.rs` lets those wait whose key another
//!   transaction holds. `schemas.rs` checks them against the schemas that this process knows.
//! - `head_start.rs` claims new deliveries with their insert. `lanes.rs` decides how many attempts at each endpoint this
//!   process makes at once.
//! - `worker.rs` claims deliveries and keeps the slots full. `attempt.rs` makes one HTTP request. `repeats.rs` hides
//!   what the response repeats of secrets. `recorder.rs` writes the outcome.
//! - `trouble.rs` handles deliveries that cannot be recorded or read, so that none is attempted for ever.
//! - `sweep.rs` repairs an index queue from the store. `refill.rs` fills parts of it that lost everything.
//! - `tell.rs` makes events that tell the host about its endpoints.
//!
//! What runs or is asked beside that:
//! - `replay.rs` runs bulk replays, `tenants.rs` erases tenants, `rekey.rs` moves stored secrets to the current key, and
//!   `maintain.rs` calls the store's housekeeping.
//! - `stats.rs` counts for statistics, `meter.rs` for metrics. `metered.rs` measures the store and the queue. `spans.rs` makes
//!   the `tracing` spans.
//! - `manage.rs` reads and changes endpoints, events and deliveries; `catalogue.rs` does so for event types. `why.rs`
//!   explains where an event went. `test.rs` tests an endpoint.
//! - `audit.rs` keeps the audit log. `alive.rs` says which processes there are.

mod alive;
mod attempt;
mod audit;
mod builder;
mod catalogue;
mod enqueue;
mod head_start;
mod lanes;
mod locked;
mod maintain;
mod manage;
mod meter;
mod metered;
mod recorder;
mod refill;
mod rekey;
mod repeats;
mod replay;
#[cfg_attr(not(feature = "schemas"), path = "no_schemas.rs")]
mod schemas;
mod spans;
mod stats;
mod sweep;
mod tell;
mod tenants;
mod test;
mod trouble;
mod why;
mod worker;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use tracing::Instrument;
use uuid::Uuid;

pub use audit::Audit;
pub use builder::{BuildError, Builder};
pub use catalogue::EventTypes;
pub use enqueue::{BatchError, EnqueueError, MAX_BATCH};
pub use manage::{Deliveries, EndpointChange, Endpoints, Events, ManageError};
pub(crate) use metered::MeteredStore;
pub use replay::{ReplayCount, Replays};
pub use tenants::Tenants;
pub use test::{TestEvent, Tested};
pub use worker::Step;

use self::audit::{Actor, Deed};
use crate::audit::AuditAction;
use crate::error::Result;
use crate::event::NewEvent;
use crate::id::IdGenerator;
use crate::network::NetworkPolicy;
use crate::observer::Observer;
use crate::process::Process;
use crate::queue::{Depth, Queue};
use crate::retry::RetryPolicy;
use crate::signing::Signer;
use crate::stats::{Stats, StatsRange, Trend};
use crate::store::{Store, TxStore};
use crate::tenant::{Scope, Tenant};
use crate::time::{Clock, Timestamp};
use crate::trace::Propagation;
use crate::transport::Transport;
use builder::Config;
use enqueue::{Intake, one_accepted};
use lanes::Lanes;
use meter::Meter;
use stats::Gathered;
use sweep::Sweeper;
use trouble::Trouble;
use worker::Pool;

/// Accepts events, and delivers them while [`run`](Self::run) is running. Cheap to clone; clones are the same.
///
/// `S` is the store's type, which only [`enqueue_in`](Self::enqueue_in) needs: everything else takes a
/// `Dispatcher`, which any `Dispatcher<S>` turns into ([`erase`](Self::erase), [`From`]).
///
/// ```
/// # use webhook_core::testing::ScriptedTransport;
/// use webhook_core::{Dispatcher, MemoryStore, NewEndpoint, NewEvent};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let dispatcher = Dispatcher::builder(MemoryStore::new())
/// #   .transport(ScriptedTransport::default())
///     .build()?;
/// dispatcher.endpoints().create(NewEndpoint::new("https://hooks.example.com/in".parse()?)).await?;
/// dispatcher.enqueue(NewEvent::json("order.paid", &serde_json::json!({ "order": 7 }))?).await?;
///
/// let worker = dispatcher.clone();
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let running = tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
/// // … until the process is asked to stop:
/// stop.send(()).ok();
/// running.await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Dispatcher<S: ?Sized = dyn Store> {
    store: Arc<S>,
    engine: Arc<Engine>,
}

/// Everything but the store's type.
pub(crate) struct Engine {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    /// Whether the queue is only an index beside the store. Only then the engine pushes, settles and sweeps.
    has_index: bool,
    /// The store's own queue, if another is its index: what is handed back is handed back there, too.
    rows: Option<Arc<dyn Queue>>,
    transport: Arc<dyn Transport>,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    policy: NetworkPolicy,
    observer: Option<Arc<dyn Observer>>,
    propagation: Option<Arc<dyn Propagation>>,
    config: Config,
    ids: IdGenerator,
    rng: Mutex<StdRng>,
    intake: Intake,
    lanes: Arc<Lanes>,
    /// The slots of this process while it delivers. New deliveries may be attempted there at once.
    running: Mutex<Weak<Pool>>,
    sweeper: Arc<Sweeper>,
    gathered: Arc<Gathered>,
    meter: Arc<Meter>,
    known: schemas::Known,
    trouble: Trouble,
    tests: test::Tests,
    /// Lanes whose breaker has closed, but which the engine could not release in the index queue.
    unreleased: Mutex<HashSet<Uuid>>,
    /// Wakes the worker when something may have been committed of which the queue does not know.
    nudge: tokio::sync::Notify,
    /// Wakes the task that carries on replays.
    replay_started: tokio::sync::Notify,
    /// Wakes the task that erases tenants.
    erasure_started: tokio::sync::Notify,
}

/// By hand: `derive` would ask for `S: Clone`.
impl<S: ?Sized> Clone for Dispatcher<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            engine: Arc::clone(&self.engine),
        }
    }
}

impl<S: Store> From<Dispatcher<S>> for Dispatcher {
    fn from(dispatcher: Dispatcher<S>) -> Self {
        dispatcher.erase()
    }
}

impl<S: ?Sized> std::fmt::Debug for Dispatcher<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher")
            .field("config", &self.engine.config)
            .finish_non_exhaustive()
    }
}

/// For the handles that borrow it.
impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// Begins to build a dispatcher around `store`.
    ///
    /// Only the default type has this function, so that the compiler can infer `Dispatcher::builder(store)`.
    pub fn builder<S: Store + 'static>(store: S) -> Builder<S> {
        Builder::new(store)
    }
}

impl<S: ?Sized> Dispatcher<S> {
    /// The same dispatcher without its store's type.
    #[must_use]
    pub fn erase(&self) -> Dispatcher {
        Dispatcher {
            store: Arc::clone(&self.engine.store),
            engine: Arc::clone(&self.engine),
        }
    }

    /// Accepts an event and returns its id. On `Ok`, the event and all its deliveries are committed.
    ///
    /// If the event's idempotency key is known, this returns the id of the first event. If you drop the future before it is
    /// ready, the event may or may not have been accepted.
    ///
    /// # Errors
    /// When the event was not accepted, or it is unknown whether it was; see [`EnqueueError`].
    pub async fn enqueue(&self, event: NewEvent) -> Result<Uuid, EnqueueError> {
        Arc::clone(&self.engine).enqueue(event).await
    }

    /// [Enqueues](Self::enqueue) an event for a person, and writes that to the [audit log](Self::audit) as done by `name`.
    /// The audit log does not tell of events that programs enqueue.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_by(&self, name: &str, event: NewEvent) -> Result<Uuid, EnqueueError> {
        let (tenant, event_type) = (event.tenant.clone(), event.event_type.clone());
        let id = self.enqueue(event).await?;
        let deed = Deed::new(AuditAction::EventSend, &id).of(Some(tenant));
        let deed = deed.detail(event_type.as_str());
        self.engine.write_down(&Actor::named(name), deed).await;
        Ok(id)
    }

    /// Accepts up to [`MAX_BATCH`] events, all of them or none, and returns their ids in order.
    ///
    /// # Errors
    /// When an event is at fault, which the error names, or the store fails; see [`BatchError`].
    pub async fn enqueue_batch(&self, events: Vec<NewEvent>) -> Result<Vec<Uuid>, BatchError> {
        Arc::clone(&self.engine).enqueue_batch(events).await
    }

    /// Delivers until `shutdown` is ready. Then it claims nothing more, lets the attempts under way finish for at most the
    /// request timeout and 2 s, records them, and returns.
    ///
    /// Failures of the store or the queue are logged and retried; this never returns because of one.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        Arc::clone(&self.engine).run(shutdown).await;
    }

    /// One round of the engine, for tests: claims what is due, attempts all of it, records the outcomes.
    ///
    /// # Errors
    /// When the store or the queue fails.
    pub async fn step(&self) -> Result<Step> {
        self.engine.step().await
    }

    /// Creating, reading and changing endpoints, of every tenant unless narrowed.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints<'_> {
        Endpoints::new(&self.engine)
    }

    /// Reading and replaying events, of every tenant unless narrowed.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events::new(&self.engine)
    }

    /// Reading, replaying and cancelling deliveries, of every tenant unless narrowed.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries::new(&self.engine)
    }

    /// Bulk replays, of every tenant unless narrowed.
    #[must_use]
    pub fn replays(&self) -> Replays<'_> {
        Replays::new(&self.engine)
    }

    /// The catalogue of event types, which is the same for all tenants.
    #[must_use]
    pub fn event_types(&self) -> EventTypes<'_> {
        EventTypes::new(&self.engine)
    }

    /// Tenants as a whole: to erase one.
    #[must_use]
    pub fn tenants(&self) -> Tenants<'_> {
        Tenants::new(&self.engine)
    }

    /// The processes that [run](Self::run), the one that started last first. Each process reports itself every half a minute.
    /// A process that has died is shown for 100 s more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn processes(&self) -> Result<Vec<Process>> {
        self.engine.processes().await
    }

    /// The audit log, of every tenant unless narrowed. It says who did what through [`endpoints`](Self::endpoints) and the
    /// other handles. An action is in it only if the handle was told who acts, with `by`.
    #[must_use]
    pub fn audit(&self) -> Audit<'_> {
        Audit::new(&self.engine)
    }

    /// Whether the store answers. While it does not, no event can be accepted.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        self.engine.store.ping().await
    }

    /// The time by this dispatcher's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.engine.clock.now()
    }

    /// The clock of this dispatcher, for code that is to sleep by the same clock, also in tests.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.engine.clock
    }

    /// Whether this process delivers: [`run`](Self::run) was called, and its `shutdown` is not ready yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let pool = self.engine.running().upgrade();
        pool.is_some_and(|pool| !pool.is_stopping())
    }

    /// The most bytes of a body that is sent. Larger events are refused.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.engine.config.max_payload
    }

    /// The tenant of the events that tell about all tenants' endpoints: [`Builder::system_tenant`].
    #[must_use]
    pub fn system_tenant(&self) -> &Tenant {
        &self.engine.config.system_tenant
    }

    /// When failed deliveries to an endpoint without a schedule of its own are tried again.
    ///
    /// This is the policy of this process. Attempts of another process follow the policy of that one.
    #[must_use]
    pub fn retry_policy(&self) -> &RetryPolicy {
        &self.engine.config.retry
    }

    /// Whether the queue answers. While it does not, events are accepted but delivered late.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping_queue(&self) -> Result<()> {
        self.engine.queue.parts().await.map(drop)
    }

    /// How soon a job comes back if the queue beside the store has forgotten it unnoticed. It is the time that the last round
    /// of the sweeper took in this process, with the pause before the next one. Overdue jobs come back within 15 s, unless
    /// there are more than a few hundred. `None` if the store is the queue, and before the first round has ended.
    #[must_use]
    pub fn audit_round(&self) -> Option<Duration> {
        self.engine.audit_round()
    }

    /// What waits in the queue, counted up to [`Depth::MOST`].
    ///
    /// # Errors
    /// When the queue does not answer. Events are still accepted if the store answers.
    pub async fn depth(&self) -> Result<Depth> {
        self.engine.queue.depth(self.engine.clock.pinned()).await
    }

    /// What happened in the last hour, day, week or month to everything in `scope`, or to one of its endpoints, and what
    /// waits, counted up to [`Depth::MOST`]. The cost does not depend on how many deliveries are stored.
    ///
    /// The figures are the sums of what each process counts in a minute. The last minute of other processes may be missing,
    /// and the last minute of a process that died is missing. Dead letters and cancellations count only if a worker decided
    /// on them, not if a person did or an endpoint was deleted. Events that `webhook.enqueue()` accepts in SQL are counted
    /// when they are delivered.
    ///
    /// # Errors
    /// When the store fails. If only the queue does, [`Stats::depth`] is `None`.
    pub async fn stats(
        &self,
        scope: &Scope,
        range: StatsRange,
        endpoint: Option<Uuid>,
    ) -> Result<Stats> {
        self.engine.stats(scope, range, endpoint).await
    }

    /// How the attempts at these endpoints of `scope` went in the last 24 hours, by the hour. It asks the store once for all
    /// endpoints. What [`stats`](Self::stats) says of its figures holds here as well.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn trends(
        &self,
        scope: &Scope,
        endpoints: &[Uuid],
    ) -> Result<std::collections::HashMap<Uuid, Trend>> {
        self.engine.trends(scope, endpoints).await
    }

    /// Sets the gauges among the [metrics](crate::metrics) to their present values. Code that exposes metrics calls this each
    /// time before they are read. It asks the store and the queue at the same time, with about one statement each, whose
    /// cost does not grow with what is stored. It waits at most 2 s; a gauge whose source does not answer is set to `NaN`.
    pub async fn sample(&self) {
        self.engine.sample().await;
    }

    /// Stores what this process has counted for [`stats`](Self::stats) and not stored yet. [`run`](Self::run) does so each
    /// minute and at its end. A process that only accepts events calls this before it ends.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn flush_stats(&self) -> Result<()> {
        self.engine.flush_stats().await
    }
}

impl<S: TxStore + ?Sized> Dispatcher<S> {
    /// Accepts an event inside the host's own transaction. The event exists once that commits, and never if it does not. This
    /// neither pushes to a queue nor waits for a connection of a pool.
    ///
    /// # Errors
    /// When the event was not accepted; the transaction may be unusable.
    pub async fn enqueue_in(
        &self,
        tx: &mut S::Connection,
        event: NewEvent,
    ) -> Result<Uuid, EnqueueError> {
        let began = self.now();
        let mut event = event;
        let span = self.engine.enqueue_span(std::slice::from_mut(&mut event));
        let accepted = self.insert_in(tx, event).instrument(span.clone()).await;
        spans::enqueued(&span, one_accepted(&accepted));
        let took = self.now().since(began);
        self.engine.meter.enqueued(took, accepted.as_ref().err());
        accepted
    }

    async fn insert_in(
        &self,
        tx: &mut S::Connection,
        event: NewEvent,
    ) -> Result<Uuid, EnqueueError> {
        let event = self.engine.stamp(event)?;
        let schemas = self.engine.schemas_in(&*self.store, tx).await?;
        schemas.check(&event)?;
        let id = event.id;
        let now = self.engine.clock.pinned();
        let events = [event];
        let insertion = self.store.insert_events_in(tx, &events, now).await;
        let insertion =
            insertion.inspect_err(|_| self.engine.meter.store.failed("insert_events_in"))?;
        self.engine.count_accepted(&events, &insertion.events);
        let accepted = enqueue::accepted(id, &insertion)?;
        self.engine.expect(&insertion.jobs);
        Ok(accepted)
    }
}

impl Engine {
    fn new_id(&self) -> Uuid {
        let random = self.with_rng(Rng::next_u64);
        self.ids.next(self.clock.now(), random)
    }

    /// A draw from −1..=1, for jitter.
    fn spread(&self) -> f64 {
        self.with_rng(|rng| rng.random_range(-1.0..=1.0))
    }

    /// The result of `work`, or `None` if it takes longer than `at_most` by the engine's clock.
    async fn within<T>(&self, at_most: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            made = work => Some(made),
            // Begins to count only when there is something to wait for.
            () = async { self.clock.sleep(at_most).await } => None,
        }
    }

    fn with_rng<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
