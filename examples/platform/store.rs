//! Where events are kept, and where their deliveries wait: the profiles differ in the two lines that
//! make the store and the queue.

#[cfg(feature = "postgres")]
use webhook_delivery::PgStore;
#[cfg(feature = "redis")]
use webhook_delivery::RedisQueue;
use webhook_delivery::{
    Builder, Dispatcher, MemoryStore, NetworkPolicy, RetryPolicy, SqliteStore, Store,
};

use crate::logging;
use crate::serve::Result;
use crate::settings::Settings;
use crate::value::Database;

/// The engine on the database that the settings name.
pub(crate) async fn dispatcher(settings: &Settings) -> Result<Dispatcher> {
    match &settings.database {
        Database::Memory => finish(Dispatcher::builder(MemoryStore::new()), settings),
        Database::Sqlite(path) => {
            let store = SqliteStore::open(path).await;
            finish(Dispatcher::builder(store.map_err(refused)?), settings)
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => {
            let store = PgStore::connect(url).await;
            let builder = Dispatcher::builder(store.map_err(refused)?);
            finish(with_queue(builder, settings).await?, settings)
        }
    }
}

/// Applies the migrations, as every start does. Answers what there is to say about it.
pub(crate) async fn migrate(database: &Database) -> Result<&'static str> {
    match database {
        Database::Memory => return Ok("memory: there is nothing to migrate"),
        Database::Sqlite(path) => {
            let store = SqliteStore::open(path).await.map_err(refused)?;
            store.close().await.map_err(refused)?;
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => drop(PgStore::connect(url).await.map_err(refused)?),
    }
    Ok("the schema is up to date")
}

/// Redis beside Postgres, if it is set. One that is away does not stop the start: events are accepted
/// meanwhile.
#[cfg(feature = "redis")]
async fn with_queue<S: Store + 'static>(
    builder: Builder<S>,
    settings: &Settings,
) -> Result<Builder<S>> {
    let Some(url) = &settings.redis_url else {
        return Ok(builder);
    };
    let queue = RedisQueue::connect(url).await;
    let queue = queue.map_err(|error| format!("REDIS_URL: {}", in_full(&error)))?;
    Ok(builder.queue(queue))
}

#[cfg(all(feature = "postgres", not(feature = "redis")))]
async fn with_queue<S>(builder: Builder<S>, _: &Settings) -> Result<Builder<S>> {
    Ok(builder)
}

/// What is the same on every store.
fn finish<S: Store + 'static>(builder: Builder<S>, settings: &Settings) -> Result<Dispatcher> {
    let policy = NetworkPolicy::builder()
        .allow_http(settings.allow_http)
        .allow_networks(settings.allow_networks.0.clone())
        .build();
    let dispatcher = builder
        .network_policy(policy)
        .retry_policy(RetryPolicy::default().schedule(settings.retry_schedule.0.clone()))
        .request_timeout(settings.request_timeout)
        .max_in_flight(settings.max_in_flight)
        .retention(settings.retention)
        .observer(logging::notice)
        .build()?;
    Ok(dispatcher.erase())
}

fn refused(error: impl std::error::Error) -> String {
    format!("the database: {}", in_full(&error))
}

/// An error and its causes in one line. Some tell their cause themselves.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}
