//! The stores under load, each empty at the start, and what a database says it did for them.

use webhook_delivery::{Builder, Dispatcher, MemoryStore, PgStore, PgStoreBuilder};

use crate::{Options, Result, StoreKind};

/// The schema that is made anew for each round.
const SCHEMA: &str = "loadtest";

/// Puts the engine on a store: what follows is the same for all.
pub(crate) async fn build(
    options: &Options,
    configure: impl Configure,
) -> Result<(Dispatcher, Option<Counters>)> {
    match options.store {
        StoreKind::Memory => {
            let store = MemoryStore::with_history(1_000);
            Ok((configure.finish(Dispatcher::builder(store))?, None))
        }
        StoreKind::Postgres => {
            let store = postgres(options).await?;
            let counters = Counters::new(&store);
            Ok((
                configure.finish(Dispatcher::builder(store))?,
                Some(counters),
            ))
        }
    }
}

/// The settings that the engine has on any store.
pub(crate) trait Configure {
    /// Sets them, and builds.
    fn finish<S: webhook_delivery::Store + 'static>(
        self,
        builder: Builder<S>,
    ) -> Result<Dispatcher>;
}

async fn postgres(options: &Options) -> Result<PgStore> {
    let url = options.database_url.as_deref();
    let url = url.ok_or("--store postgres needs --database-url or DATABASE_URL")?;
    let builder = || PgStoreBuilder::default().schema(SCHEMA).max_connections(16);
    let old = builder().connect(url).await?;
    sqlx::raw_sql("DROP SCHEMA loadtest CASCADE")
        .execute(old.pool())
        .await?;
    old.pool().close().await;
    let store = builder().connect(url).await?;
    sqlx::raw_sql("CHECKPOINT").execute(store.pool()).await?;
    Ok(store)
}

/// What a Postgres server counts.
pub(crate) struct Counters {
    pool: sqlx::PgPool,
}

/// What it had counted at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) statements: i64,
    pub(crate) wal_bytes: i64,
}

impl Counters {
    fn new(store: &PgStore) -> Self {
        Self {
            pool: store.pool().clone(),
        }
    }

    /// Statements, by the transactions they are: each of the engine's is one. The server gathers what
    /// its processes report once a second.
    pub(crate) async fn read(&self) -> Result<Count> {
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        let (statements, wal_bytes) = sqlx::query_as(
            "SELECT xact_commit + xact_rollback, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint
            FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Count {
            statements,
            wal_bytes,
        })
    }
}
