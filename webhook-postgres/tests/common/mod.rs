//! A schema of its own for each test, in the database that `DATABASE_URL` names.

use std::env;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use webhook_postgres::PgStore;

/// The tests' server.
///
/// # Panics
/// When there is none: `cargo xtask test` brings one.
pub fn database_url() -> String {
    env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, or set it to a Postgres server")
}

/// A schema that goes when it is dropped.
pub struct Schema {
    pub store: PgStore,
    pub name: String,
    pub pool: PgPool,
}

impl Schema {
    pub async fn new() -> Self {
        let name = format!("t_{:032x}", rand_u128());
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .connect(&database_url())
            .await
            .expect("the server answers");
        let store = PgStore::builder().schema(&name).open(pool.clone()).await;
        Self {
            store: store.expect("the schema is made"),
            name,
            pool,
        }
    }

    /// A statement written for the schema `webhook`, in this one.
    pub fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace("webhook.", &format!("{}.", self.name)))
    }

    pub async fn run(&self, text: &str) {
        let ran = self.pool.execute(sqlx::raw_sql(self.sql(text))).await;
        ran.expect("the statement is run");
    }

    /// A new number each time, also in other processes.
    pub async fn drop(self) {
        let text = format!("DROP SCHEMA {} CASCADE", self.name);
        let dropped = self.pool.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
        dropped.expect("the schema is dropped");
    }
}

fn rand_u128() -> u128 {
    webhook_core::testing::event_for("t", "t", "1", webhook_core::Timestamp::EPOCH)
        .id
        .as_u128()
}
