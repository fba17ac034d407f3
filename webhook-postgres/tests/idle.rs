//! What a process asks of the server when there is nothing to do.

mod common;

use std::collections::HashMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use common::{Schema, database_url};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use webhook_core::testing::{ScriptedTransport, endpoint_for, event_for, run};
use webhook_core::{
    ClaimOptions, Clock, Dispatcher, EndpointSettings, InsertOptions, MemoryQueue, Now, OnConflict,
    Store, SystemClock, Timestamp,
};
use webhook_postgres::{PgStore, PgStoreBuilder};

const SECOND: Duration = Duration::from_secs(1);

/// What sqlx says that it sends.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &Event<'_>) {
        let mut summary = Summary(String::new());
        event.record(&mut summary);
        self.0.lock().expect("no panic").push(summary.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// How a statement begins.
struct Summary(String);

impl Visit for Summary {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// The system's clock, that tells how often something has idled for a second.
#[derive(Clone)]
struct Idling {
    clock: SystemClock,
    idled: watch::Sender<usize>,
}

#[async_trait]
impl Clock for Idling {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pinned(&self) -> Now {
        None
    }

    async fn sleep(&self, by: Duration) {
        self.clock.sleep(by).await;
        if by >= SECOND {
            self.idled.send_modify(|count| *count += 1);
        }
    }
}

/// Lets a process idle, and looks at what it sends when it has settled down.
async fn idles_quietly(builder: PgStoreBuilder, queue: Option<MemoryQueue>) {
    let schema = Schema::new().await;
    let endpoint = endpoint_for("default", EndpointSettings::default());
    let stored = schema.store.insert_endpoint(&endpoint, usize::MAX).await;
    stored.expect("stored");
    let options = PgConnectOptions::from_str(&database_url()).expect("a URL");
    let pool = PgPoolOptions::new().connect_lazy_with(options);
    let store = builder.schema(&schema.name).without_migrations();
    let store: PgStore = store.open(pool).await.expect("the schema fits");
    let idling = Idling {
        clock: SystemClock,
        idled: watch::Sender::new(0),
    };
    let mut idled = idling.idled.subscribe();
    let builder = Dispatcher::builder(store)
        .transport(ScriptedTransport::default())
        .clock(idling);
    let builder = match queue {
        Some(queue) => builder.queue(queue),
        None => builder,
    };
    let dispatcher = builder.build().expect("it builds");

    let statements = Statements::default();
    let _sent = tracing::subscriber::set_default(statements.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = dispatcher.run(async { stopped.await.unwrap_or_default() });
    let watched = async {
        let mut wait_until = async |count: usize| {
            let waited = idled.wait_for(|idled| *idled >= count).await;
            *waited.expect("it runs")
        };
        let settled = wait_until(3).await;
        statements.0.lock().expect("no panic").clear();
        let begun = Instant::now();
        wait_until(settled + 8).await;
        let sent = statements.0.lock().expect("no panic").clone();
        stop.send(()).expect("it runs");
        (begun.elapsed(), sent)
    };
    let ((), (elapsed, sent)) = tokio::join!(running, watched);
    // One that was under way, and three that come every half a minute or minute: for replays, for erasures, and to say
    // that the process is alive.
    let allowed = elapsed.as_secs_f64() + 4.0;
    assert!((sent.len() as f64) <= allowed, "{elapsed:?}: {sent:#?}");
    assert!(!sent.is_empty(), "it is no longer told what is sent");
}

#[test]
fn who_hears_of_others_idles_quietly() {
    run(idles_quietly(PgStore::builder(), None));
}

#[test]
fn who_hears_nobody_idles_quietly() {
    run(idles_quietly(PgStore::builder().without_listening(), None));
}

#[test]
fn who_claims_elsewhere_idles_quietly() {
    run(idles_quietly(
        PgStore::builder(),
        Some(MemoryQueue::default()),
    ));
}

#[test]
fn tenants_without_room_cost_few_statements_and_the_others_no_turn() {
    run(async {
        const TENANTS: usize = 310;
        const OTHERS: std::ops::Range<usize> = 200..210;
        let schema = Schema::new().await;
        let mut rooms = Vec::new();
        let mut events = Vec::new();
        let mut in_order = None;
        for number in 0..TENANTS {
            let tenant = format!("tenant-{number:03}");
            let settings = EndpointSettings {
                // The first that can be claimed from.
                ordered: number == OTHERS.start,
                ..EndpointSettings::default()
            };
            let endpoint = endpoint_for(&tenant, settings);
            let stored = schema.store.insert_endpoint(&endpoint, usize::MAX).await;
            stored.expect("stored");
            if !OTHERS.contains(&number) {
                rooms.push((endpoint.id, 0));
            }
            if endpoint.settings.ordered {
                in_order = Some(endpoint.id);
            }
            let event = |n: usize| event_for(&tenant, "a", &n.to_string(), Timestamp::EPOCH);
            events.extend((0..2).map(event));
        }
        let options = InsertOptions::new(OnConflict::Skip);
        let stored = schema.store.insert_events(&events, &options, None).await;
        stored.expect("stored");
        let queue = schema.store.queue().expect("its own");
        let statements = Statements::default();
        let _sent = tracing::subscriber::set_default(statements.clone());
        let claim = async || {
            let options = ClaimOptions::new(3, SECOND * 60).rooms(8, rooms.clone());
            queue.claim(options, None).await.expect("it claims").leases
        };
        let mut turns: HashMap<_, Vec<usize>> = HashMap::new();
        let mut claims = 0;
        loop {
            let leases = claim().await;
            if leases.is_empty() {
                break;
            }
            claims += 1;
            for lease in leases {
                turns.entry(lease.lane).or_default().push(claims);
            }
        }
        let sent = statements.0.lock().expect("no panic").len();
        assert!(sent <= 5 * (claims + 1), "{sent} for {claims} claims");
        assert_eq!(turns.len(), OTHERS.len());
        for (lane, turns) in &turns {
            // Of an ordered lane the second waits for the first.
            let expected = if Some(*lane) == in_order { 1 } else { 2 };
            assert_eq!(turns.len(), expected);
            assert!(turns[0] <= OTHERS.len() / 2, "{turns:?}");
        }
    });
}
