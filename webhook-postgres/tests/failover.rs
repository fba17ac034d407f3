//! A primary that is none any longer: its connections are given up, and new ones lead to whoever is.

mod common;

use common::{Schema, new_name, pool};
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};
use webhook_core::testing::{event_for, run};
use webhook_core::{ErrorKind, InsertOptions, OnConflict, Result, Store, Timestamp};
use webhook_postgres::PgStore;

const CONNECTIONS: usize = 5;

/// A store whose pool is full of connections to a server that takes no writes. New ones lead to one that does.
async fn after_a_failover(schema: &Schema) -> PgStore {
    let to_primary = schema.pool.connect_options().as_ref().clone();
    let to_replica = to_primary
        .clone()
        .options([("default_transaction_read_only", "on")]);
    let pool = idle_pool(to_replica).await;
    let builder = PgStore::builder().schema(&schema.name).without_migrations();
    let store = builder.without_listening().open(pool.clone()).await;
    wait_for_idle(&pool).await;
    pool.set_connect_options(to_primary);
    store.expect("the schema fits")
}

/// A pool with all of its connections, which nobody uses.
async fn idle_pool(options: PgConnectOptions) -> PgPool {
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .test_before_acquire(false);
    let pool = pool.connect_lazy_with(options);
    let connections = join_all((0..CONNECTIONS).map(|_| pool.acquire())).await;
    for connection in connections {
        connection
            .expect("the server answers")
            .ping()
            .await
            .expect("it does");
    }
    wait_for_idle(&pool).await;
    pool
}

async fn wait_for_idle(pool: &PgPool) {
    while pool.num_idle() < CONNECTIONS {
        tokio::task::yield_now().await;
    }
}

async fn enqueue(store: &PgStore) -> Result<()> {
    let now = Timestamp::from_seconds(1_700_000_000);
    let event = event_for("default", "a", "1", now);
    let options = InsertOptions::new(OnConflict::Skip);
    store
        .insert_events(&[event], &options, None)
        .await
        .map(drop)
}

#[test]
fn one_refused_write_finds_the_new_primary() {
    run(async {
        let schema = Schema::new().await;
        let store = after_a_failover(&schema).await;
        let refused = enqueue(&store)
            .await
            .expect_err("a replica takes no writes");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        for _ in 0..=CONNECTIONS {
            enqueue(&store).await.expect("the primary takes them");
        }
    });
}

#[test]
fn who_cannot_write_is_not_there() {
    run(async {
        let schema = Schema::new().await;
        let store = after_a_failover(&schema).await;
        let refused = store.ping().await.expect_err("a replica takes no writes");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        store.ping().await.expect("the primary takes them");
    });
}

#[test]
fn one_ended_connection_tells_of_all() {
    run(async {
        let schema = Schema::new().await;
        let name = new_name();
        let options = schema.pool.connect_options().as_ref().clone();
        let own = idle_pool(options.application_name(&name)).await;
        let builder = PgStore::builder().schema(&schema.name).without_migrations();
        let store = builder.without_listening().open(own.clone()).await;
        let store = store.expect("the schema fits");
        wait_for_idle(&own).await;
        // It waits for each of them to be gone.
        let ended: i64 = sqlx::query_scalar(
            "WITH own AS MATERIALIZED (
                SELECT pid FROM pg_stat_activity WHERE application_name = $1
            )
            SELECT count(*) FROM own WHERE pg_terminate_backend(pid, 60000)",
        )
        .bind(&name)
        .fetch_one(&pool().await)
        .await
        .expect("they are ended");
        assert_eq!(ended, 5);
        let failed = store.ping().await.expect_err("its connection is ended");
        assert_eq!(failed.kind(), ErrorKind::Unavailable);
        for _ in 0..=CONNECTIONS {
            enqueue(&store).await.expect("it is connected anew");
        }
    });
}
