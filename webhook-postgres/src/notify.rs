//! Telling other processes that there is something to claim, without a NOTIFY for each event.
//!
//! A NOTIFY inside of a transaction takes a lock at its commit that all others with one wait for. So it is
//! sent after the commit, on its own, and for all events of a moment together. Only the function `enqueue`, whose
//! callers have no process of ours, sends its own. What is lost is found by polling; so nothing depends on it but
//! the time it takes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::store::Shared;

/// The time between two announcements: those who listen hear of all that came between at once.
const EVERY: Duration = Duration::from_millis(20);
/// When to announce after a host's transaction was joined, whose commit nobody tells of.
const AFTER_JOINING: [Duration; 5] = [
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
    Duration::from_millis(500),
];
/// Between two tries to listen.
const RELISTEN: Duration = Duration::from_secs(5);

/// How the processes of a store hear of each other.
pub(crate) struct Announcements {
    channel: String,
    /// Whose announcements need not be heard here.
    process: String,
    /// Where to listen; `None` not to.
    listen: Option<PgConnectOptions>,
    listening: Mutex<Listening>,
    /// Something was heard, if only from here: notifications do get through.
    hears: AtomicBool,
    announcing: AtomicBool,
    again: AtomicBool,
    awaiting_commit: AtomicBool,
}

/// How far listening has got: whoever waits may give up at any time, and the next goes on.
#[derive(Default)]
struct Listening {
    listener: Option<PgListener>,
    starting: Option<Starting>,
    not_before: Option<Instant>,
}

type Starting = Pin<Box<dyn Future<Output = sqlx::Result<PgListener>> + Send>>;

impl Announcements {
    pub(crate) fn new(schema: &str, listen: Option<PgConnectOptions>) -> Self {
        Self {
            channel: format!("{schema}_ready"),
            process: Uuid::from_u128(rand::random()).simple().to_string(),
            listen,
            listening: Mutex::default(),
            hears: AtomicBool::new(false),
            announcing: AtomicBool::new(false),
            again: AtomicBool::new(false),
            awaiting_commit: AtomicBool::new(false),
        }
    }

    /// Whether others' events are heard of, so that polling can be rare.
    pub(crate) fn are_heard(&self) -> bool {
        self.hears.load(Ordering::SeqCst)
    }

    /// Waits for another process's announcement. To be dropped and called again at any time.
    pub(crate) async fn next(&self) {
        let Some(options) = &self.listen else {
            return std::future::pending().await;
        };
        let mut listening = self.listening.lock().await;
        loop {
            let Some(listener) = &mut listening.listener else {
                match self.start(options, &mut listening).await {
                    Ok(started) => listening.listener = Some(started),
                    Err(error) => {
                        tracing::debug!(%error, "not listening for other processes' events");
                        listening.not_before = Some(Instant::now() + RELISTEN);
                    }
                }
                listening.starting = None;
                continue;
            };
            match listener.try_recv().await {
                Ok(Some(heard)) => {
                    self.hears.store(true, Ordering::SeqCst);
                    if heard.payload() != self.process {
                        return;
                    }
                }
                // Whatever was said meanwhile was missed.
                Ok(None) | Err(_) => {
                    self.hears.store(false, Ordering::SeqCst);
                    listening.listener = None;
                    return;
                }
            }
        }
    }

    /// Starts to listen, or goes on with it.
    async fn start(
        &self,
        options: &PgConnectOptions,
        listening: &mut Listening,
    ) -> sqlx::Result<PgListener> {
        if let Some(not_before) = listening.not_before {
            tokio::time::sleep_until(not_before).await;
            listening.not_before = None;
        }
        let (options, channel) = (options.clone(), self.channel.clone());
        let process = self.process.clone();
        let begin = || Box::pin(listen(options, channel, process)) as Starting;
        listening.starting.get_or_insert_with(begin).await
    }
}

/// Listens, and asks for an echo: behind some poolers notifications never arrive.
async fn listen(
    options: PgConnectOptions,
    channel: String,
    process: String,
) -> sqlx::Result<PgListener> {
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(&channel).await?;
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(channel)
        .bind(process)
        .execute(&mut listener)
        .await?;
    Ok(listener)
}

impl Shared {
    /// Tells the other processes, soon and once for all who ask at about the same time.
    pub(crate) fn announce(self: &Arc<Self>) {
        let announcements = &self.announcements;
        announcements.again.store(true, Ordering::SeqCst);
        if announcements.announcing.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let announcements = &shared.announcements;
            while announcements.again.swap(false, Ordering::SeqCst) {
                shared.tell_others().await;
                tokio::time::sleep(EVERY).await;
            }
            announcements.announcing.store(false, Ordering::SeqCst);
            // Who asked between the two lines was turned away.
            if announcements.again.load(Ordering::SeqCst) {
                shared.announce();
            }
        });
    }

    /// Tells the other processes about when a host's transaction is likely to have committed.
    pub(crate) fn announce_commit(self: &Arc<Self>) {
        if self
            .announcements
            .awaiting_commit
            .swap(true, Ordering::SeqCst)
        {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            for pause in AFTER_JOINING {
                // From the first pause on, whoever joins another transaction gets a series of its own.
                tokio::time::sleep(pause).await;
                shared
                    .announcements
                    .awaiting_commit
                    .store(false, Ordering::SeqCst);
                shared.announce();
            }
        });
    }

    async fn tell_others(&self) {
        let told = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(&self.announcements.channel)
            .bind(&self.announcements.process)
            .execute(&self.pool)
            .await;
        if let Err(error) = told {
            tracing::debug!(%error, "other processes were not told; they will look by themselves");
        }
    }
}
