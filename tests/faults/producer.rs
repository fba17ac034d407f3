//! A node that enqueues, in all ways there are, whatever becomes of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Semaphore;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use webhook_delivery::{Dispatcher, EnqueueError, NewEvent, Timestamp};

use crate::Result;
use crate::journal::{Account, Entry, Journal, now};
use crate::load::{BATCH, Call, Kind, mixed};
use crate::node::{TENANTS, tenant};
use crate::shop::{End, Shop};

/// The most calls of one producer that are open at a time.
const OPEN: usize = 256;

/// Between two calls for the ordered endpoint, which takes one event at a time.
const ORDERED_PACE: Duration = Duration::from_millis(150);

/// Before a call is repeated under its key.
const PAUSE: Duration = Duration::from_millis(100);

/// What a producer does.
#[derive(Clone, Debug, Args)]
pub(crate) struct Production {
    /// Makes so many calls a second.
    #[arg(long, required = false)]
    pub(crate) rate: u32,
    /// Where it writes down what became of them.
    #[arg(long, required = false)]
    pub(crate) journal: PathBuf,
    /// What tells its calls from those of others.
    #[arg(long, required = false)]
    pub(crate) name: u32,
    /// What its choice of calls begins with.
    #[arg(long, required = false)]
    pub(crate) seed: u64,
    /// The journal of one that died: what it left open is enqueued again where there is a key.
    #[arg(long)]
    pub(crate) resume: Option<PathBuf>,
}

/// Enqueues, and writes down what it is told.
pub(crate) struct Producer {
    dispatcher: Dispatcher,
    shop: Shop,
    journal: Journal,
    production: Production,
    stop: CancellationToken,
}

impl Producer {
    pub(crate) fn new(
        dispatcher: Dispatcher,
        shop: Shop,
        production: &Production,
        stop: CancellationToken,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            dispatcher,
            shop,
            journal: Journal::start(File::create(&production.journal)?),
            production: production.clone(),
            stop,
        }))
    }

    /// Enqueues until it is to stop. As many calls at a time as the store needs to keep the rate.
    pub(crate) async fn run(self: Arc<Self>) {
        let ordered = tokio::spawn(Arc::clone(&self).enqueue_in_order());
        let room = Arc::new(Semaphore::new(OPEN));
        let calls = TaskTracker::new();
        if let Some(journal) = &self.production.resume {
            match left_open(journal) {
                Ok(left) => left.into_iter().for_each(|call| {
                    calls.spawn(Arc::clone(&self).account_for(call));
                }),
                Err(error) => tracing::error!(%error, "nothing is enqueued again"),
            }
        }
        let mut ticks = paced(Duration::from_secs(1) / self.production.rate.max(1));
        for number in 0.. {
            let Some(()) = self.until_stopped(ticks.tick()).await.map(drop) else {
                break;
            };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                break;
            };
            let chosen = self.production.seed ^ u64::from(self.production.name) << 32 ^ number;
            let call = self.call(Kind::chosen(mixed(chosen)), number);
            let done = Arc::clone(&self).account_for(call);
            calls.spawn(async move {
                done.await;
                drop(permit);
            });
        }
        calls.close();
        calls.wait().await;
        if ordered.await.is_err() {
            tracing::error!("the calls in order ended in a panic");
        }
    }

    /// What is to keep its order must not overlap.
    async fn enqueue_in_order(self: Arc<Self>) {
        let mut ticks = paced(ORDERED_PACE);
        for number in 0.. {
            if self.until_stopped(ticks.tick()).await.is_none() {
                return;
            }
            let call = self.call(Kind::Ordered, number);
            Arc::clone(&self).account_for(call).await;
        }
    }

    /// `None` if it is to stop before.
    async fn until_stopped<T>(&self, ready: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(ready).await
    }

    fn call(&self, kind: Kind, number: u64) -> Call {
        Call {
            kind,
            producer: self.production.name,
            number,
            part: 0,
        }
    }

    async fn account_for(self: Arc<Self>, call: Call) {
        if let Err(error) = self.enqueue(call).await {
            tracing::error!(%error, %call, "a call is not accounted for");
        }
    }

    /// Accepted is what `enqueue` said, after it said so.
    async fn enqueue(&self, call: Call) -> Result {
        match call.kind {
            Kind::Batch => self.enqueue_batch(call).await,
            Kind::Keyed => self.enqueue_keyed(call).await,
            Kind::Committed | Kind::Withdrawn => self.transact(call).await,
            Kind::Plain | Kind::Wide | Kind::Delayed | Kind::Ordered => {
                let event = self.begin(call)?;
                let answer = self.dispatcher.enqueue(event).await;
                self.write(call, answer).await
            }
        }
    }

    async fn enqueue_batch(&self, first: Call) -> Result {
        let calls = (0..BATCH).map(|part| Call { part, ..first });
        let events = calls.clone().map(|call| self.begin(call));
        let events = events.collect::<Result<Vec<_>>>()?;
        match self.dispatcher.enqueue_batch(events).await {
            Ok(ids) => {
                for (call, id) in calls.zip(ids) {
                    self.write(call, Ok::<_, EnqueueError>(id)).await?;
                }
            }
            Err(error) => {
                for call in calls {
                    self.write(call, Err(&error)).await?;
                }
            }
        }
        Ok(())
    }

    /// Until it is clear whether the event was accepted: however often it is asked for, it is one.
    async fn enqueue_keyed(&self, call: Call) -> Result {
        let key = call.to_string();
        let event = self.begin(call)?.idempotency_key(&key)?;
        loop {
            let answer = self.dispatcher.enqueue(event.clone()).await;
            let is_open = matches!(answer, Err(EnqueueError::Store(_)));
            if !is_open || self.stop.is_cancelled() {
                return self.write(call, answer).await;
            }
            self.journal.note(Entry::Again(call));
            // In vain, but for the end.
            let _ = timeout(PAUSE, self.stop.cancelled()).await;
        }
    }

    async fn transact(&self, call: Call) -> Result {
        let event = self.begin(call)?;
        if call.kind == Kind::Withdrawn {
            // One that fails before is withdrawn as well.
            let _ = self.shop.enqueue(event, End::Rollback).await;
            return self.journal.write(Entry::Withdrawn(call)).await;
        }
        let answer = self.shop.enqueue(event, End::Commit).await;
        self.write(call, answer).await
    }

    /// Notes that the event is about to be enqueued.
    fn begin(&self, call: Call) -> Result<NewEvent> {
        let event = NewEvent::data(&call.kind.event_type(), call.data())?;
        let tenant = match call.kind {
            Kind::Ordered => tenant(0)?,
            _ => tenant((call.number + u64::from(call.part)) % TENANTS)?,
        };
        let (event, begun) = (event.tenant(tenant), now());
        self.journal.note(Entry::Begun(call, begun));
        Ok(match call.kind {
            Kind::Delayed => event.deliver_at(Timestamp::from_micros(begun + call.delay())),
            _ => event,
        })
    }

    async fn write<E: std::fmt::Debug>(
        &self,
        call: Call,
        answer: std::result::Result<Uuid, E>,
    ) -> Result {
        let entry = match answer {
            Ok(id) => Entry::Accepted(call, id, now()),
            Err(error) => {
                tracing::warn!(?error, %call, "refused");
                Entry::Refused(call)
            }
        };
        self.journal.write(entry).await
    }
}

/// A tick that is late does not bring the next ones closer.
fn paced(pace: Duration) -> Interval {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The calls with a key that a journal does not say the end of.
fn left_open(journal: &Path) -> Result<Vec<Call>> {
    let mut account = Account::default();
    account.add(journal)?;
    let keyed = account.open().filter(|call| call.kind == Kind::Keyed);
    Ok(keyed.collect())
}
