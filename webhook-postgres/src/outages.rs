//! Tests of a server that goes away silently: its connections stay open, but nothing arrives on them.

use std::env;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::slice::from_ref;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;
use webhook_core::testing::{endpoint_for, event_for, run};
use webhook_core::{
    AuditFilter, ClaimOptions, DeliveryFilter, Endpoint, EndpointFilter, EndpointSettings,
    ErrorKind, Event, EventFilter, Hold, Idempotency, InsertOptions, Lease, Next, OnConflict,
    PageRequest, Queue, Record, Result, Scope, Settle, StatsQuery, Store, Timestamp,
};

use crate::PgStore;
use crate::error::failed;
use crate::lent::Patience;
use crate::replays::Found;

/// More than the calls of a test.
const CONNECTIONS: u32 = 40;
/// For all that is asked of a silent server: long enough for one that speaks.
const SHORT: Duration = Duration::from_secs(2);
/// How often a call may fail before it is said that it always will.
const TRIES: usize = 15;

/// Stands between a store and the tests' server.
struct Proxy {
    url: String,
    is_silent: watch::Sender<bool>,
}

impl Proxy {
    async fn start() -> Self {
        let server = env::var("DATABASE_URL").expect("DATABASE_URL is not set: `cargo xtask test`");
        let options = PgConnectOptions::from_str(&server).expect("a Postgres URL");
        let target = format!("{}:{}", options.get_host(), options.get_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let own = listener.local_addr().expect("it is bound").to_string();
        let url = server.replace(&target, &own);
        assert_ne!(url, server, "the URL names no port");
        let is_silent = watch::Sender::new(false);
        let silence = is_silent.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.clone(), silence.clone()));
            }
        });
        Self { url, is_silent }
    }

    /// From now on all connections are dead, those that are still opened, too.
    fn fall_silent(&self) {
        self.is_silent.send_replace(true);
    }

    /// Connections that are opened from now on lead to a server; the others stay dead.
    fn is_replaced(&self) {
        self.is_silent.send_replace(false);
    }

    /// A store with a schema of its own behind it.
    async fn store(&self, connections: u32) -> PgStore {
        let patience = Patience {
            connection: SHORT,
            statement: SHORT,
            housekeeping: SHORT,
            ping: SHORT,
        };
        let name = event_for("t", "t", "1", Timestamp::EPOCH).id.simple();
        let builder = PgStore::builder().schema(format!("t_{name}"));
        // It takes longer than the rest may.
        let made = builder.clone().connect(&self.url).await;
        made.expect("the schema is made").pool().close().await;
        let builder = builder.without_migrations().max_connections(connections);
        let store = builder.patience(patience).connect(&self.url).await;
        store.expect("it opens")
    }
}

/// Bytes both ways, until nobody is there any longer; even then somebody takes them.
async fn carry(mut client: TcpStream, target: String, mut is_silent: watch::Receiver<bool>) {
    let mut server = TcpStream::connect(target).await.expect("the server");
    tokio::select! {
        biased;
        _ = is_silent.wait_for(|it| *it) => {}
        _ = copy_bidirectional(&mut client, &mut server) => return,
    }
    let mut swallowed = [0; 1_024];
    while let Ok(1..) = client.read(&mut swallowed).await {}
}

/// Has so many connections in the store's pool that nobody uses. As many can be had: none is lost.
async fn fill_pool(store: &PgStore, count: u32) {
    for _ in 0..TRIES {
        let connections = join_all((0..count).map(|_| store.pool().acquire())).await;
        if let Ok(mut connections) = connections.into_iter().collect::<sqlx::Result<Vec<_>>>() {
            for connection in &mut connections {
                connection.return_to_pool().await;
            }
            if store.pool().num_idle() == count as usize {
                return;
            }
        }
    }
    panic!("the pool does not lend {count} connections");
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

macro_rules! calls {
    ($($name:literal: $call:expr,)*) => {
        [$(($name, Box::pin(async move { $call.await.map(drop) }) as Call<'_>)),*]
    };
}

struct Given {
    endpoint: Endpoint,
    event: Event,
    keyed: Event,
    lease: Lease,
}

impl Given {
    async fn by(store: &PgStore) -> Self {
        let endpoint = endpoint_for("default", EndpointSettings::default());
        store
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .expect("stored");
        let now = Timestamp::from_seconds(1_700_000_000);
        let event = event_for("default", "a", "1", now);
        let mut keyed = event_for("default", "a", "2", now);
        keyed.idempotency = Some(Idempotency {
            window: Idempotency::DEFAULT_WINDOW,
            key: "k".to_owned(),
            fingerprint: [7; 32],
        });
        let options = InsertOptions::new(OnConflict::Skip);
        let stored = store.insert_events(from_ref(&event), &options, Some(now));
        stored.await.expect("stored");
        let queue = store.queue().expect("its own");
        let claimed = queue.claim(ClaimOptions::new(1, SHORT), Some(now)).await;
        let lease = claimed.expect("claimed").leases[0];
        Self {
            endpoint,
            event,
            keyed,
            lease,
        }
    }

    fn store_calls<'a>(&'a self, store: &'a PgStore) -> Vec<(&'static str, Call<'a>)> {
        let (scope, page) = (&Scope::All, PageRequest::first(9));
        let lease = self.lease;
        calls! {
            "insert": store.insert_events(from_ref(&self.event), &skip(), None),
            "insert keyed": store.insert_events(from_ref(&self.keyed), &skip(), None),
            "insert together": store.insert_events(
                from_ref(&self.keyed), &InsertOptions::new(OnConflict::Abort), None,
            ),
            "load": store.load(&[lease], None),
            "record": store.record(&[record(lease)], None),
            "jobs": store.jobs(&[lease.delivery]),
            "unqueued": store.unqueued(None, 9),
            "ping": store.ping(),
            "maintain": store.maintain(Duration::MAX, None),
            "insert_endpoint": store.insert_endpoint(&self.endpoint, usize::MAX),
            "update_endpoint": store.update_endpoint(&self.endpoint),
            "health": store.health(scope, &[self.endpoint.id], None),
            "recover_endpoint": store.recover_endpoint(scope, self.endpoint.id),
            "delete_endpoint": store.delete_endpoint(scope, Uuid::nil(), None),
            "endpoint": store.endpoint(scope, self.endpoint.id),
            "endpoints": store.endpoints(scope, &EndpointFilter::default(), page),
            "event": store.event(scope, self.event.id),
            "events": store.events(scope, &EventFilter::default(), page),
            "delivery": store.delivery(scope, lease.delivery),
            "deliveries": store.deliveries(scope, &DeliveryFilter::default(), page),
            "attempts": store.attempts(scope, lease.delivery),
            "replay_delivery": store.replay_delivery(scope, lease.delivery, None),
            "replay_event": store.replay_event(scope, self.event.id, None),
            "cancel_delivery": store.cancel_delivery(scope, lease.delivery, None),
            "stats": store.stats(scope, &stats()),
            "step_replay": make_replay(store),
        }
        .into()
    }

    fn queue_calls<'a>(&'a self, queue: &'a dyn Queue) -> Vec<(&'static str, Call<'a>)> {
        let (lane, lease) = (self.endpoint.id, self.lease);
        calls! {
            "claim": queue.claim(ClaimOptions::new(1, SHORT), None),
            "extend": queue.extend(&[lease], SHORT, None),
            "settle": queue.settle(&[(lease, Settle::Unused(SHORT))], None),
            "hold": queue.hold(lane, Hold::new(SHORT), None),
            "release": queue.release(lane),
            "depth": queue.depth(None),
        }
        .into()
    }
}

fn skip() -> InsertOptions {
    InsertOptions::new(OnConflict::Skip)
}

fn record(lease: Lease) -> Record {
    Record {
        lease,
        attempt: None,
        next: Next::Succeeded,
        disable: None,
        hold: None,
        health: None,
        event: None,
    }
}

/// The last part of a step, in which it makes what it has found.
async fn make_replay(store: &PgStore) -> Result<()> {
    let made = store.0.make(Uuid::nil(), 0, &Found::default(), None).await;
    made.map(drop).map_err(failed("step_replay"))
}

fn stats() -> StatsQuery {
    StatsQuery {
        since: Timestamp::EPOCH,
        until: Timestamp::from_seconds(4_000_000_000),
        step: Duration::from_secs(60),
        endpoint: None,
        trends: false,
    }
}

#[test]
fn all_that_is_asked_of_a_silent_server_ends() {
    run(async {
        let proxy = Proxy::start().await;
        let store = proxy.store(CONNECTIONS).await;
        let queue = store.queue().expect("its own");
        let given = Given::by(&store).await;
        fill_pool(&store, CONNECTIONS).await;
        proxy.fall_silent();
        let mut calls = given.store_calls(&store);
        calls.extend(given.queue_calls(&*queue));
        let ends = calls
            .into_iter()
            .map(|(name, call)| async move { (name, call.await) });
        for (name, end) in join_all(ends).await {
            let error = end.expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{name}: {error:?}");
        }

        proxy.is_replaced();
        fill_pool(&store, CONNECTIONS).await;
        let mut calls = given.store_calls(&store);
        calls.extend(given.queue_calls(&*queue));
        for (name, call) in calls {
            if let Err(error) = call.await {
                assert_ne!(error.kind(), ErrorKind::Unavailable, "{name}: {error:?}");
            }
        }
    });
}

#[test]
fn looks_leave_connections_to_deliveries_and_end_in_time() {
    run(async {
        let proxy = Proxy::start().await;
        let store = proxy.store(6).await;
        let looks = [store.0.look().await, store.0.look().await];
        let looks = looks.map(|look| look.expect("there is a place"));
        let page = PageRequest::first(1);
        let (filter, audited) = (EventFilter::default(), AuditFilter::default());
        let events = store.events(&Scope::All, &filter, page);
        let audit = store.audit(&Scope::All, &audited, page);
        let deliveries = DeliveryFilter::default();
        let deliveries = store.deliveries(&Scope::All, &deliveries, page);
        for refused in [
            events.await.err(),
            deliveries.await.err(),
            audit.await.err(),
            store.stats(&Scope::All, &stats()).await.err(),
        ] {
            let refused = refused.expect("there is no place");
            assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused:?}");
            assert!(refused.is_retryable());
        }
        store.ping().await.expect("there are connections");
        drop(looks);
        let found = store.events(&Scope::All, &filter, page).await;
        found.expect("there is a place again");
    });
}

#[test]
fn a_caller_that_gives_up_takes_no_place_of_the_pool_along() {
    run(async {
        let proxy = Proxy::start().await;
        let store = proxy.store(1).await;
        fill_pool(&store, 1).await;
        proxy.fall_silent();
        let asks = store.clone();
        let asking = tokio::spawn(async move { asks.ping().await });
        while store.pool().num_idle() > 0 {
            tokio::task::yield_now().await;
        }
        asking.abort();
        asking.await.expect_err("it has given up");
        proxy.is_replaced();
        fill_pool(&store, 1).await;
    });
}

#[test]
fn who_listens_to_a_silent_server_notices_and_listens_again() {
    run(async {
        let proxy = Proxy::start().await;
        let store = proxy.store(2).await;
        let listen = || {
            let queue = store.queue().expect("its own");
            tokio::spawn(async move { queue.ready().await })
        };
        let until_heard = async || {
            while !store.0.announcements.are_heard() {
                tokio::task::yield_now().await;
            }
        };
        let listening = listen();
        until_heard().await;
        proxy.fall_silent();
        listening.await.expect("no panic");
        assert!(!store.0.announcements.are_heard());
        proxy.is_replaced();
        let listening = listen();
        until_heard().await;
        listening.abort();
    });
}

#[test]
fn who_hears_nothing_asks_for_an_echo_and_listens_on() {
    run(async {
        let proxy = Proxy::start().await;
        let store = proxy.store(2).await;
        let mut listener = sqlx::postgres::PgListener::connect(&proxy.url)
            .await
            .expect("a listener");
        let channel = &store.0.announcements.channel;
        listener.listen(channel).await.expect("it listens");
        let queue = store.queue().expect("its own");
        let hears = tokio::spawn(async move { queue.ready().await });
        for _ in 0..3 {
            let said = listener.recv().await.expect("an echo");
            assert_eq!(said.payload(), "echo");
        }
        assert!(!hears.is_finished(), "an echo is no news");
        assert!(store.0.announcements.are_heard());
        hears.abort();
    });
}
