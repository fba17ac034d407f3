//! What it costs that another session of the database stays in a transaction: nothing that ended since can be vacuumed.

use sqlx::{Connection as _, PgConnection};

use super::Finding;
use crate::report::median;
use crate::sink::Sink;
use crate::{Options, Result, StoreKind, bare, engine};

pub(super) async fn measure(options: &Options) -> Result<Finding> {
    if matches!(options.store, StoreKind::Memory | StoreKind::Sqlite) {
        return Err("sessions are Postgres's: choose postgres or redis".into());
    }
    let sink = Sink::start().await?;
    let (mut bare, mut steady, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    crate::warm_up(options, &sink).await?;
    for _ in 0..options.rounds {
        bare.push(bare::run(options, &sink).await?);
        steady.push(engine::throughput(options, &sink).await?);
        let idle = Idle::begin(options).await?;
        beside.push(engine::throughput(options, &sink).await?);
        idle.end().await?;
    }
    sink.stop().await?;

    let mut finding = Finding::new(options);
    let seconds = median(beside.iter().map(|round| round.seconds));
    finding.figure("seconds_idle", seconds, "of each round, in transaction");
    finding.compare(&bare, &steady, &beside);
    Ok(finding)
}

/// A session that has read something in its transaction, has written something, and does nothing more.
struct Idle(PgConnection);

impl Idle {
    async fn begin(options: &Options) -> Result<Self> {
        let url = options.database_url.as_deref();
        let url = url.ok_or("--database-url or DATABASE_URL is needed")?;
        let mut session = PgConnection::connect(url).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id();";
        sqlx::raw_sql(begin).execute(&mut session).await?;
        Ok(Self(session))
    }

    /// Fails if the server has ended it before.
    async fn end(mut self) -> Result<()> {
        sqlx::raw_sql("COMMIT").execute(&mut self.0).await?;
        Ok(self.0.close().await?)
    }
}
