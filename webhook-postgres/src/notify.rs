//! Tells other processes that there is something to claim, without a NOTIFY for each event.
//!
//! A NOTIFY inside a transaction takes a lock at its commit, for which all other such transactions wait. So the NOTIFY is sent
//! after the commit, by itself, and one for all events of a moment. Only the SQL function `enqueue` sends its own, because its
//! callers may have no process of ours. If a NOTIFY is lost, processes find the events by polling. So a NOTIFY only saves time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::query::Query;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
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
/// What is said only to be heard by whoever says it; it brings nothing.
const ECHO: &str = "echo";

/// How the processes of a store hear of each other.
pub(crate) struct Announcements {
    pub(crate) channel: String,
    /// Whose announcements need not be heard here.
    process: String,
    /// Where to listen; `None` not to.
    listen: Option<PgConnectOptions>,
    /// How long silence is nothing to worry about, and then how long an echo may take.
    patience: Duration,
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
    ear: Option<Ear>,
    starting: Option<Starting>,
    not_before: Option<Instant>,
}

/// From a server that went away without a word, or that others have left, nothing would ever be heard.
struct Ear {
    listener: PgListener,
    silent_until: Instant,
    awaits_echo: bool,
}

enum Heard {
    /// Another process has something.
    News,
    Echo,
    /// For so long that it is time to ask for an echo.
    Silence,
    Nobody,
}

type Starting = Pin<Box<dyn Future<Output = sqlx::Result<PgListener>> + Send>>;

impl Announcements {
    pub(crate) fn new(schema: &str, listen: Option<PgConnectOptions>, patience: Duration) -> Self {
        Self {
            channel: format!("{schema}_ready"),
            process: Uuid::from_u128(rand::random()).simple().to_string(),
            listen,
            patience,
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

    /// Starts to listen, or goes on with it; after a failure, some time later.
    async fn start(&self, options: &PgConnectOptions, listening: &mut Listening) {
        if let Some(not_before) = listening.not_before {
            tokio::time::sleep_until(not_before).await;
            listening.not_before = None;
        }
        let (options, channel, patience) = (options.clone(), self.channel.clone(), self.patience);
        let begin = || Box::pin(listen(options, channel, patience)) as Starting;
        let started = listening.starting.get_or_insert_with(begin).await;
        listening.starting = None;
        match started {
            Ok(listener) => {
                listening.ear = Some(Ear {
                    listener,
                    silent_until: Instant::now() + self.patience,
                    awaits_echo: true,
                });
            }
            Err(error) => {
                tracing::debug!(%error, "not listening for other processes' events");
                listening.not_before = Some(Instant::now() + RELISTEN);
            }
        }
    }

    async fn hear(&self, ear: &mut Ear) -> Heard {
        let said = timeout_at(ear.silent_until, ear.listener.try_recv()).await;
        let awaits_echo = said.is_err();
        if awaits_echo && ear.awaits_echo {
            return Heard::Nobody;
        }
        ear.silent_until = Instant::now() + self.patience;
        ear.awaits_echo = awaits_echo;
        match said {
            Ok(Ok(Some(said))) => {
                self.hears.store(true, Ordering::SeqCst);
                let is_news = said.payload() != ECHO && said.payload() != self.process;
                if is_news { Heard::News } else { Heard::Echo }
            }
            Ok(Ok(None) | Err(_)) => Heard::Nobody,
            Err(_) => Heard::Silence,
        }
    }
}

/// Listens, and asks for an echo: behind some poolers notifications never arrive.
async fn listen(
    options: PgConnectOptions,
    channel: String,
    patience: Duration,
) -> sqlx::Result<PgListener> {
    let listening = async {
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&channel).await?;
        notify(&channel, ECHO).execute(&mut listener).await?;
        Ok(listener)
    };
    let listening = timeout(patience, listening).await;
    listening.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))
}

fn notify<'q>(channel: &'q str, payload: &'q str) -> Query<'q, Postgres, PgArguments> {
    let query = sqlx::query("SELECT pg_notify($1, $2)");
    query.bind(channel).bind(payload)
}

impl Shared {
    /// Waits for another process's announcement. To be dropped and called again at any time.
    pub(crate) async fn next_announcement(self: &Arc<Self>) {
        let announcements = &self.announcements;
        let Some(options) = &announcements.listen else {
            return std::future::pending().await;
        };
        let mut listening = announcements.listening.lock().await;
        loop {
            let Some(ear) = &mut listening.ear else {
                announcements.start(options, &mut listening).await;
                continue;
            };
            match announcements.hear(ear).await {
                Heard::Echo => {}
                Heard::News => return,
                // By the pool: if that has found another server since, nothing comes back.
                Heard::Silence => {
                    let shared = Arc::clone(self);
                    tokio::spawn(async move { shared.say(ECHO).await });
                }
                // Whatever was said meanwhile was missed. To a server that is silent sqlx says good-bye for as long
                // as the operating system keeps the connection, in a task of its own.
                Heard::Nobody => {
                    announcements.hears.store(false, Ordering::SeqCst);
                    listening.ear = None;
                    return;
                }
            }
        }
    }

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
                shared.say(&announcements.process).await;
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

    async fn say(&self, payload: &str) {
        let said = self.execute(notify(&self.announcements.channel, payload));
        if let Err(error) = said.await {
            tracing::debug!(%error, "other processes were not told; they will look by themselves");
        }
    }
}
