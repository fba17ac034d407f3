//! What the databases say they did.

use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::InfoKind;
use fred::types::config::Config;
use webhook_delivery::PgStore;

use crate::Result;
use crate::report::Spent;

/// A Postgres server, and a Redis server if there is one beside it.
pub(crate) struct Counters {
    pool: sqlx::PgPool,
    schema: String,
    redis: Option<Client>,
}

/// What they had counted at one time, or between two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    at: Instant,
    statements: i64,
    statements_here: Option<i64>,
    wal_bytes: i64,
    redis: Option<Commands>,
}

#[derive(Clone, Copy, Debug)]
struct Commands {
    /// With those that scripts run.
    all: i64,
    /// Each is a round trip, and nearly all round trips of the engine are.
    scripts: i64,
}

impl Counters {
    pub(crate) async fn new(store: &PgStore, schema: &str, redis: Option<&str>) -> Result<Self> {
        let redis = match redis {
            None => None,
            Some(url) => {
                let client = Client::new(Config::from_url(url)?, None, None, None);
                client.init().await?;
                Some(client)
            }
        };
        Ok(Self {
            pool: store.pool().clone(),
            schema: schema.to_owned(),
            redis,
        })
    }

    /// Statements, by the transactions they are: each of the engine's is one. The server gathers what
    /// its processes report once a second.
    pub(crate) async fn read(&self) -> Result<Count> {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let (statements, wal_bytes) = sqlx::query_as(
            "SELECT xact_commit + xact_rollback, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint
            FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&self.pool)
        .await?;
        // Fails where the extension is not there.
        let statements_here = sqlx::query_scalar(
            "SELECT sum(calls)::bigint FROM pg_stat_statements WHERE strpos(query, $1) > 0",
        )
        .bind(format!("\"{}\".", self.schema))
        .fetch_one(&self.pool)
        .await
        .ok();
        let redis = match &self.redis {
            None => None,
            Some(client) => {
                let info: String = client.info(Some(InfoKind::All)).await?;
                Some(Commands::parse(&info))
            }
        };
        Ok(Count {
            at: Instant::now(),
            statements,
            statements_here,
            wal_bytes,
            redis,
        })
    }
}

impl Commands {
    /// From what `INFO` says.
    fn parse(info: &str) -> Self {
        let number = |before: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(before));
            let number = line.and_then(|line| line.split(',').next());
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Self {
            all: number("total_commands_processed:"),
            scripts: number("cmdstat_eval:calls=") + number("cmdstat_evalsha:calls="),
        }
    }
}

impl Count {
    /// What was counted from then to now, without the questions then: they were not yet in their own answers.
    fn since(self, before: Self) -> (Self, Duration) {
        let redis = self.redis.zip(before.redis).map(|(now, then)| Commands {
            all: now.all - then.all - 1,
            scripts: now.scripts - then.scripts,
        });
        let count = Self {
            at: self.at,
            statements: self.statements - before.statements - 2,
            statements_here: self
                .statements_here
                .zip(before.statements_here)
                .map(|(now, then)| now - then),
            wal_bytes: self.wal_bytes - before.wal_bytes,
            redis,
        };
        (count, self.at - before.at)
    }

    fn divided_by(self, number: f64) -> Spent {
        let each = |count: i64| count as f64 / number;
        Spent {
            statements: each(self.statements),
            statements_here: self.statements_here.map(each),
            wal_bytes: each(self.wal_bytes),
            redis_commands: self.redis.map(|redis| each(redis.all)),
            redis_scripts: self.redis.map(|redis| each(redis.scripts)),
        }
    }

    /// What each of so many deliveries took.
    pub(crate) fn spent(
        before: Option<Self>,
        after: Option<Self>,
        deliveries: u64,
    ) -> Option<Spent> {
        let (count, _) = after?.since(before?);
        Some(count.divided_by(deliveries as f64))
    }

    /// What a minute took.
    pub(crate) fn spent_per_minute(before: Option<Self>, after: Option<Self>) -> Option<Spent> {
        let (count, time) = after?.since(before?);
        Some(count.divided_by(time.as_secs_f64() / 60.0))
    }
}
