//! Connections of the pool, and the time that a server gets to answer.
//!
//! If a server goes away silently, nothing ever arrives from it, not even an error, because sqlx sets no keepalive on its
//! sockets. So every request has a time limit. A connection is closed if it did not answer, or if its server is no primary any
//! longer.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, PgPool, Postgres, Row};
use tokio::runtime::Handle;
use tokio::sync::SemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::error::{is_lost, overloaded};
use crate::store::Shared;

/// How long a server may take to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The pool, to find a connection or to open one.
    pub(crate) connection: Duration,
    /// What others wait for: a statement, or a transaction of a few.
    pub(crate) statement: Duration,
    /// Housekeeping, which looks at much.
    pub(crate) housekeeping: Duration,
    /// Whether it is there.
    pub(crate) ping: Duration,
}

/// A connection of the pool, which goes back there only if its server answered.
pub(crate) struct Lent {
    connection: PoolConnection<Postgres>,
    pool: PgPool,
    patience: Duration,
    is_well: bool,
}

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

impl Default for Patience {
    fn default() -> Self {
        Self {
            connection: Duration::from_secs(5),
            statement: Duration::from_secs(30),
            housekeeping: Duration::from_secs(300),
            ping: Duration::from_secs(5),
        }
    }
}

impl Patience {
    /// Options of a session whose server ends what we would give up, and notices when we are gone: else it would
    /// keep locks for nobody.
    pub(crate) fn session(self, options: PgConnectOptions) -> PgConnectOptions {
        let is_set = |name: &str| options.get_options().is_some_and(|set| set.contains(name));
        let by = (!is_set("statement_timeout")).then(|| self.statement * 5 / 6);
        let by = by.map(|by| ("statement_timeout", by.as_millis().to_string()));
        // Compiling a plan to machine code takes longer than any statement of ours.
        let rest = [
            ("jit", "off"),
            ("tcp_keepalives_idle", "60"),
            ("tcp_keepalives_interval", "15"),
            ("tcp_keepalives_count", "4"),
        ];
        let rest = rest.map(|(name, value)| (name, value.to_owned()));
        options
            .application_name("webhook-delivery")
            .options(rest.into_iter().chain(by))
    }
}

impl Shared {
    /// A connection, to be used for no longer than the patience that fits, and then to be told what came of it.
    pub(crate) async fn lend(&self) -> sqlx::Result<Lent> {
        Ok(Lent {
            connection: self.pool.acquire().await?,
            pool: self.pool.clone(),
            patience: self.patience.statement,
            is_well: false,
        })
    }

    /// A place to look for what people ask for, until it is dropped.
    pub(crate) async fn look(&self) -> sqlx::Result<SemaphorePermit<'_>> {
        let place = timeout(self.patience.connection, self.looks.acquire()).await;
        let place = place.map_err(|_| overloaded())?;
        place.map_err(|_| sqlx::Error::PoolClosed)
    }

    /// Whether the server is there and takes writes: one that was the primary may do the first alone.
    pub(crate) async fn ping(&self) -> sqlx::Result<()> {
        let mut lent = self.lend().await?;
        let asked = async {
            let row = self.sql.ping.query().fetch_one(&mut *lent).await?;
            if row.try_get("is_writable")? {
                Ok(())
            } else {
                Err(io::Error::other("the server takes no writes").into())
            }
        };
        let answer = timeout(self.patience.ping, asked).await;
        lent.answered(answer)
    }

    /// All rows that a statement answers.
    pub(crate) async fn rows(&self, query: PgQuery<'_>) -> sqlx::Result<Vec<PgRow>> {
        let mut lent = self.lend().await?;
        let rows = timeout(self.patience.statement, query.fetch_all(&mut *lent)).await;
        lent.answered(rows)
    }

    /// The one row that a statement answers, if it does.
    pub(crate) async fn row(&self, query: PgQuery<'_>) -> sqlx::Result<Option<PgRow>> {
        Ok(self.rows(query).await?.into_iter().next())
    }

    /// The row of a statement that always answers one.
    pub(crate) async fn only_row(&self, query: PgQuery<'_>) -> sqlx::Result<PgRow> {
        self.row(query).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// How many rows a statement changes.
    pub(crate) async fn execute(&self, query: PgQuery<'_>) -> sqlx::Result<u64> {
        let mut lent = self.lend().await?;
        let done = timeout(self.patience.statement, query.execute(&mut *lent)).await;
        Ok(lent.answered(done)?.rows_affected())
    }
}

impl Lent {
    /// What the server answered, if it did in time. After a sign that it is gone, the connections that lie idle
    /// are as good: each of them would fail somebody once more.
    pub(crate) fn answered<T>(
        mut self,
        answer: Result<sqlx::Result<T>, Elapsed>,
    ) -> sqlx::Result<T> {
        let answer =
            answer.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
        self.is_well = !answer.as_ref().is_err_and(is_lost);
        if !self.is_well {
            while let Some(mut idle) = self.pool.try_acquire() {
                idle.close_on_drop();
            }
        }
        answer
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Lent {
    /// Whoever gives up in the middle leaves a connection behind of which nobody knows how it is.
    fn drop(&mut self) {
        if !self.is_well {
            self.connection.close_on_drop();
        } else if let Ok(runtime) = Handle::try_current() {
            // The pool asks it once more whether it is well. Left alone it would wait for that answer for ever,
            // and keep the place that the connection has in the pool.
            let back = self.connection.return_to_pool();
            let patience = self.patience;
            runtime.spawn(async move { timeout(patience, back).await.ok() });
        }
    }
}
