//! A schema of its own for each test, in the database that `DATABASE_URL` names.

#![allow(dead_code, reason = "each test uses some of it")]

use std::env;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use webhook_core::Timestamp;
use webhook_core::testing::event_for;
use webhook_postgres::{PgStore, PgStoreBuilder};

/// The tests' server: `cargo xtask test` brings one.
pub(crate) fn database_url() -> String {
    env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, or name a Postgres server")
}

/// A schema with a store in it. The server is a throwaway, and so is the schema.
pub(crate) struct Schema {
    pub(crate) store: PgStore,
    pub(crate) name: String,
    pub(crate) pool: PgPool,
}

impl Schema {
    pub(crate) async fn new() -> Self {
        Self::with(PgStoreBuilder::plaintext).await
    }

    pub(crate) async fn with(settings: impl FnOnce(PgStoreBuilder) -> PgStoreBuilder) -> Self {
        let name = new_name();
        let pool = pool().await;
        let builder = settings(PgStore::builder().schema(&name));
        let store = builder.open(pool.clone()).await;
        Self {
            store: store.expect("the schema is made"),
            name,
            pool,
        }
    }

    /// Text written for the schema `webhook`, in this one.
    pub(crate) fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace("webhook.", &format!("{}.", self.name)))
    }

    pub(crate) async fn run(&self, text: &str) {
        let ran = self.pool.execute(sqlx::raw_sql(self.sql(text))).await;
        ran.expect("the statement runs");
    }

    /// The one value that a query answers.
    pub(crate) async fn value<T>(&self, text: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let value = sqlx::query_scalar(self.sql(text))
            .fetch_one(&self.pool)
            .await;
        value.expect("the query answers")
    }
}

pub(crate) async fn pool() -> PgPool {
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .connect(&database_url())
        .await;
    pool.expect("the server answers")
}

/// Another one each time, in other processes too.
pub(crate) fn new_name() -> String {
    let id = event_for("t", "t", "1", Timestamp::EPOCH).id;
    format!("t_{}", id.simple())
}
