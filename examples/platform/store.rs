//! Where events are kept, and where their deliveries wait: the profiles differ in the two lines that
//! make the store and the queue.

use std::path::Path;

#[cfg(feature = "postgres")]
use webhook_delivery::PgStore;
#[cfg(feature = "redis")]
use webhook_delivery::RedisQueue;
use webhook_delivery::{
    Builder, Dispatcher, HttpTransport, MemoryStore, NetworkPolicy, Rekeyed, RetryPolicy,
    SqliteStore, Store,
};

#[cfg(feature = "postgres")]
use crate::encryption::Keys;
use crate::encryption::keys_beside;
use crate::logging;
use crate::serve::Result;
use crate::settings::Settings;
use crate::traces::Contexts;
use crate::value::Database;

/// The engine on the database that the settings name.
pub(crate) async fn dispatcher(settings: &Settings) -> Result<Dispatcher> {
    match &settings.database {
        Database::Memory => finish(Dispatcher::builder(MemoryStore::new()), settings),
        Database::Sqlite(path) => {
            finish(Dispatcher::builder(sqlite(path, settings).await?), settings)
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => {
            let builder = Dispatcher::builder(postgres(url, settings).await?);
            finish(with_queue(builder, settings).await?, settings)
        }
    }
}

/// Seals the endpoints' secrets with the current key.
pub(crate) async fn rekey(settings: &Settings) -> Result<Rekeyed> {
    let done = match &settings.database {
        Database::Memory => Rekeyed::default(),
        Database::Sqlite(path) => {
            let store = sqlite(path, settings).await?;
            let done = Dispatcher::builder(store.clone()).build()?.rekey().await;
            store.close().await.map_err(refused)?;
            done.map_err(refused)?
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => {
            let store = postgres(url, settings).await?;
            let done = Dispatcher::builder(store).build()?.rekey().await;
            done.map_err(refused)?
        }
    };
    Ok(done)
}

async fn sqlite(path: &Path, settings: &Settings) -> Result<SqliteStore> {
    let builder = SqliteStore::builder();
    let builder = match keys_beside(path, &settings.keys)? {
        Some(keys) => builder.encryption(keys),
        None => builder.plaintext(),
    };
    Ok(builder.open(path).await.map_err(refused)?)
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str, settings: &Settings) -> Result<PgStore> {
    let builder = PgStore::builder();
    let builder = match &settings.keys {
        Keys::Given(keys) => builder.encryption(keys.clone()),
        _ => builder.plaintext(),
    };
    Ok(builder.connect(url).await.map_err(refused)?)
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
        .deny_networks(settings.deny_networks.0.clone())
        .build();
    let mut transport = HttpTransport::builder()
        .policy(policy.clone())
        .max_idle_per_host(settings.max_in_flight);
    if let Some(proxy) = &settings.egress_proxy {
        transport = transport.proxy(proxy.clone());
    }
    let builder = match settings.collector {
        Some(_) => builder.propagation(Contexts),
        None => builder,
    };
    let dispatcher = builder
        .transport(transport.build()?)
        .network_policy(policy)
        .retry_policy(RetryPolicy::default().schedule(settings.retry_schedule.0.clone()))
        .request_timeout(settings.request_timeout)
        .max_in_flight(settings.max_in_flight)
        .retention(settings.retention)
        .role(settings.role.as_str())
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
