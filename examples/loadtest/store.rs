//! The stores under load, each empty at the start.

use std::path::PathBuf;

use webhook_delivery::{
    Builder, Dispatcher, MemoryStore, PgStore, PgStoreBuilder, RedisQueue, SqliteStore,
};

use crate::counters::Counters;
use crate::{Options, Result, StoreKind};

/// Puts the engine on a store: what follows is the same for all.
pub(crate) async fn build(
    options: &Options,
    configure: impl Configure,
) -> Result<(Dispatcher, Kept)> {
    match options.store {
        StoreKind::Memory => {
            let store = MemoryStore::with_history(1_000);
            Ok((configure.finish(Dispatcher::builder(store))?, Kept::Nothing))
        }
        StoreKind::Sqlite => {
            let file = File::new(options);
            let builder = Dispatcher::builder(SqliteStore::open(&file.file).await?);
            Ok((configure.finish(builder)?, Kept::File(file)))
        }
        StoreKind::Postgres => {
            let store = postgres(options).await?;
            let kept = Kept::Counters(Counters::new(&store, &options.schema, None).await?);
            Ok((configure.finish(Dispatcher::builder(store))?, kept))
        }
        StoreKind::Redis => {
            let store = postgres(options).await?;
            let redis_url = options.redis_url.as_deref();
            let counters = Counters::new(&store, &options.schema, redis_url);
            let kept = Kept::Counters(counters.await?);
            let builder = Dispatcher::builder(store).queue(redis(options).await?);
            Ok((configure.finish(builder)?, kept))
        }
    }
}

/// What lives as long as the engine.
pub(crate) enum Kept {
    Nothing,
    /// Removed when it is dropped.
    #[expect(dead_code, reason = "kept for its drop")]
    File(File),
    Counters(Counters),
}

/// A SQLite file with its companions.
pub(crate) struct File {
    file: PathBuf,
    /// Whether to remove it: another process may have made it.
    is_ours: bool,
}

impl File {
    fn new(options: &Options) -> Self {
        let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
        let file = folder.join(format!("loadtest-{}.db", options.run()));
        let is_ours = !options.worker;
        let file = Self { file, is_ours };
        file.remove();
        file
    }

    fn remove(&self) {
        if !self.is_ours {
            return;
        }
        for companion in ["", "-wal", "-shm"] {
            let mut path = self.file.clone().into_os_string();
            path.push(companion);
            // It may not be there.
            std::fs::remove_file(path).ok();
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A queue that nobody has used before.
pub(crate) async fn redis(options: &Options) -> Result<RedisQueue> {
    let url = options.redis_url.as_deref();
    let url = url.ok_or("--store redis needs --redis-url or REDIS_URL")?;
    let prefix = match &options.run {
        Some(run) => format!("loadtest-{run}"),
        None => format!("loadtest-{}", uuid::Uuid::now_v7().simple()),
    };
    Ok(RedisQueue::builder(url)
        .key_prefix(&prefix)
        .connect()
        .await?)
}

/// The settings that the engine has on any store.
pub(crate) trait Configure {
    /// Sets them, and builds.
    fn finish<S: webhook_delivery::Store + 'static>(
        self,
        builder: Builder<S>,
    ) -> Result<Dispatcher>;
}

/// In a schema that is made anew, except by those who share it.
async fn postgres(options: &Options) -> Result<PgStore> {
    if options.worker {
        return connect(options).await;
    }
    let old = connect(options).await?;
    run(&old, format!("DROP SCHEMA {} CASCADE", options.schema)).await?;
    old.pool().close().await;
    let store = connect(options).await?;
    run(&store, "CHECKPOINT".to_owned()).await?;
    Ok(store)
}

/// With what the schema has.
pub(crate) async fn connect(options: &Options) -> Result<PgStore> {
    let url = options.database_url.as_deref();
    let url = url.ok_or("--store postgres needs --database-url or DATABASE_URL")?;
    let builder = PgStoreBuilder::default().schema(&options.schema);
    Ok(builder.max_connections(16).connect(url).await?)
}

pub(crate) async fn run(store: &PgStore, sql: String) -> Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(store.pool())
        .await?;
    Ok(())
}
