//! Opens a store.

use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use tokio::time::timeout;
use webhook_core::backend::Encryption;
use webhook_core::{BoxError, KeyProvider, Store};

use crate::lent::Patience;
use crate::migrate;
use crate::notify::Announcements;
use crate::store::PgStore;

const DEFAULT_CONNECTIONS: u32 = 10;
/// A connection that nobody used for so long is asked whether its server is still there.
const TESTED_AFTER: Duration = Duration::from_millis(500);

/// Opens a [`PgStore`]; every setting has a default.
#[derive(Clone)]
pub struct PgStoreBuilder {
    schema: String,
    max_connections: u32,
    migrate: bool,
    listen: Listen,
    patience: Patience,
    encryption: Encryption,
}

/// Where to listen for what other processes announce.
#[derive(Clone)]
enum Listen {
    /// At the pool's own server.
    AtServer,
    At(Box<PgConnectOptions>),
    Nowhere,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not a Postgres URL.
    #[error("not a Postgres URL")]
    Url(#[source] BoxError),
    /// The schema's name is not 1 to 48 of `a-z 0-9 _`, beginning with a letter.
    #[error("a schema's name is 1 to 48 of the characters a-z 0-9 _, and begins with a letter")]
    Schema,
    /// The server did not answer, or refused.
    #[error("Postgres did not answer")]
    Server(#[source] BoxError),
    /// A newer version of this library has changed the schema in a way that this one does not know.
    #[error("the schema is at version {found}, this library knows {known}: update it")]
    TooNew {
        /// What the schema is at.
        found: i32,
        /// The newest that this library knows.
        known: i32,
    },
    /// The schema lacks migrations, and this builder was told not to run them.
    #[error("the schema is at version {found}, and needs {needed}: run the migrations")]
    TooOld {
        /// What the schema is at; 0 if it is not there.
        found: i32,
        /// What this library needs.
        needed: i32,
    },
}

impl Default for PgStoreBuilder {
    fn default() -> Self {
        Self {
            schema: "webhook".to_owned(),
            max_connections: DEFAULT_CONNECTIONS,
            migrate: true,
            listen: Listen::AtServer,
            patience: Patience::default(),
            encryption: Encryption::default(),
        }
    }
}

impl PgStoreBuilder {
    /// The schema for all tables; `webhook` unless set.
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// The most connections of the store's own pool; 10 unless set.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    #[cfg(test)]
    pub(crate) fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Does not migrate, for roles that may not change tables. Run [`migrations`](Self::migrations) then.
    #[must_use]
    pub fn without_migrations(mut self) -> Self {
        self.migrate = false;
        self
    }

    /// The migrations as SQL, in order, if you run them with a tool of your own. Each one makes the next version of the schema,
    /// beginning with version 1, and records that. Run each in one transaction.
    ///
    /// If a migration makes an index of a table that is in use, it says `CREATE INDEX IF NOT EXISTS`. On a schema with many
    /// deliveries, first run that statement alone, as `CREATE INDEX CONCURRENTLY IF NOT EXISTS`. Inside the migration it would
    /// keep everybody from writing for as long as it takes.
    ///
    /// # Errors
    /// When the schema's name is not allowed.
    pub fn migrations(&self) -> Result<Vec<String>, ConnectError> {
        if !is_name(&self.schema) {
            return Err(ConnectError::Schema);
        }
        Ok(migrate::scripts(&self.schema))
    }

    /// Listens at another URL. A pooler in transaction mode does not pass notifications on, so give the URL of the server
    /// itself. Without notifications, events of other processes are found within a second.
    ///
    /// Logs a warning if the connection to another machine is not encrypted.
    ///
    /// # Errors
    /// When it is not a Postgres URL.
    pub fn listen_url(mut self, url: &str) -> Result<Self, ConnectError> {
        let options = PgConnectOptions::from_str(url).map_err(|it| ConnectError::Url(it.into()))?;
        warn_of_plaintext(&options);
        self.listen = Listen::At(Box::new(options));
        Ok(self)
    }

    /// Does not listen, which saves a connection. Events of other processes are then found within a second.
    #[must_use]
    pub fn without_listening(mut self) -> Self {
        self.listen = Listen::Nowhere;
        self
    }

    /// Seals the endpoints' signing secrets, secret headers and URL queries with these keys. Every process on this schema needs
    /// them. Without keys, the tables hold these secrets as plain text, and the store logs a warning when it opens. Secrets that
    /// were stored before there were keys stay readable; [`Dispatcher::rekey`](webhook_core::Dispatcher::rekey) seals them.
    ///
    /// ```no_run
    /// # async fn host() -> Result<(), Box<dyn std::error::Error>> {
    /// use webhook_core::StaticKeys;
    /// use webhook_postgres::PgStore;
    ///
    /// let keys: StaticKeys = std::env::var("WEBHOOKS_KEY")?.parse()?; // openssl rand -base64 32
    /// let store = PgStore::builder().encryption(keys).connect("postgres://app@db.internal/app").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn encryption(mut self, keys: impl KeyProvider + 'static) -> Self {
        self.encryption = Encryption::with(keys);
        self
    }

    /// Stores the endpoints' secrets as plain text on purpose, without a warning.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.encryption = Encryption::plaintext();
        self
    }

    /// Opens the store with a pool of its own. The server ends statements that take longer than 25 seconds, unless the URL sets a
    /// `statement_timeout`.
    ///
    /// Logs a warning if the connection to another machine is not encrypted.
    ///
    /// # Errors
    /// When the server does not answer, or the schema does not fit.
    pub async fn connect(self, url: &str) -> Result<PgStore, ConnectError> {
        let options = PgConnectOptions::from_str(url).map_err(|it| ConnectError::Url(it.into()))?;
        warn_of_plaintext(&options);
        let options = self.patience.session(options);
        // Time is left then to open another.
        let tested_within = self.patience.connection / 2;
        let pool = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.patience.connection)
            // Asked each time, a busy server would answer as often that it is there as it does work.
            .test_before_acquire(false)
            .before_acquire(move |connection, state| {
                Box::pin(async move {
                    if state.idle_for < TESTED_AFTER {
                        return Ok(true);
                    }
                    let answer = timeout(tested_within, connection.ping()).await;
                    answer.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))?;
                    Ok(true)
                })
            })
            .connect_with(options)
            .await
            .map_err(|it| ConnectError::Server(it.into()))?;
        self.open(pool).await
    }

    /// Opens the store on a pool of the host. The engine needs a few connections at any time. It gives a statement up after 30
    /// seconds, but the server goes on with it, unless the pool sets a `statement_timeout`.
    ///
    /// # Errors
    /// When the server does not answer, or the schema does not fit.
    pub async fn open(self, pool: PgPool) -> Result<PgStore, ConnectError> {
        if !is_name(&self.schema) {
            return Err(ConnectError::Schema);
        }
        let checked = migrate::check(&pool, &self.schema);
        let checked = timeout(self.patience.statement, checked).await;
        match checked.map_err(|it| ConnectError::Server(it.into()))? {
            Err(ConnectError::TooOld { .. }) if self.migrate => {
                let direct = match &self.listen {
                    Listen::At(options) => options.as_ref().clone(),
                    Listen::AtServer | Listen::Nowhere => pool.connect_options().as_ref().clone(),
                };
                migrate::run(&pool, &self.schema, &direct).await?;
            }
            checked => checked?,
        }
        let listen = match self.listen {
            Listen::AtServer => Some(pool.connect_options().as_ref().clone()),
            Listen::At(options) => Some(*options),
            Listen::Nowhere => None,
        };
        let announcements = Announcements::new(&self.schema, listen, self.patience.statement);
        self.encryption.warn_if_unsaid();
        let store = PgStore::new(
            pool,
            &self.schema,
            self.patience,
            announcements,
            self.encryption,
        );
        if self.migrate {
            // Partitions for what comes now; nothing is dropped before the engine says how long to keep.
            let made = store.maintain(Duration::MAX, None).await;
            made.map_err(|it| ConnectError::Server(it.into()))?;
        }
        Ok(store)
    }
}

/// Without the options for LISTEN, which hold a password.
impl std::fmt::Debug for PgStoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgStoreBuilder")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .field("migrate", &self.migrate)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

/// Postgres would take more, but then every statement had to quote it differently.
fn is_name(schema: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=48).contains(&schema.len())
        && schema.starts_with(|c: char| c.is_ascii_lowercase())
        && schema.chars().all(allowed)
}

fn warn_of_plaintext(options: &PgConnectOptions) {
    if may_go_unencrypted(options) {
        tracing::warn!(
            host = options.get_host(),
            "payloads and secrets may go to Postgres unencrypted: add sslmode=verify-full"
        );
    }
}

/// Whether another machine may be spoken to in plain text.
fn may_go_unencrypted(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let is_local = options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let may_be_plain = matches!(
        options.get_ssl_mode(),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
    );
    !is_local && may_be_plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_for_this_machine_alone() {
        for (url, expected) in [
            ("postgres://db.internal/app", true),
            ("postgres://db.internal/app?sslmode=disable", true),
            ("postgres://db.internal/app?sslmode=allow", true),
            ("postgres://db.internal/app?sslmode=prefer", true),
            ("postgres://db.internal/app?sslmode=require", false),
            ("postgres://db.internal/app?sslmode=verify-ca", false),
            ("postgres://db.internal/app?sslmode=verify-full", false),
            ("postgres://10.0.0.7/app", true),
            ("postgres://localhost.example.com/app", true),
            ("postgres://[2001:db8::1]/app", true),
            ("postgres://localhost/app?sslmode=disable", false),
            ("postgres://127.0.0.1/app", false),
            ("postgres://127.8.8.8/app", false),
            ("postgres://[::1]/app", false),
            ("postgres:///app?host=/var/run/postgresql", false),
            ("postgres://%2Fvar%2Frun%2Fpostgresql/app", false),
        ] {
            let options = PgConnectOptions::from_str(url).expect("a URL");
            assert_eq!(may_go_unencrypted(&options), expected, "{url}");
        }
    }

    #[test]
    fn schemas_have_plain_names() {
        for good in ["webhook", "w", "app_2"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "2app", "_a", "a b", "a\"b", "Webhook", &"x".repeat(49)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
