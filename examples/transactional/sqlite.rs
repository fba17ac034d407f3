//! The shop on SQLite.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use uuid::Uuid;
use webhook_delivery::{Dispatcher, SqliteStore};

use crate::{Order, Result, Shop};

pub(crate) struct SqliteShop {
    pool: SqlitePool,
    store: SqliteStore,
}

impl SqliteShop {
    pub(crate) async fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("shop.db");
        println!("A shop on SQLite, in {}\n", file.display());
        // The pool is the host's: so is what a commit promises. These are what to use.
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePool::connect_with(options).await?;
        sqlx::query("CREATE TABLE orders (number INTEGER PRIMARY KEY)")
            .execute(&pool)
            .await?;
        // The engine's tables stand beside it, their names beginning with `webhook_`.
        let store = SqliteStore::builder().open_in(pool.clone()).await?;
        Ok(Self { pool, store })
    }
}

impl Shop for SqliteShop {
    type Store = SqliteStore;

    fn store(&self) -> SqliteStore {
        self.store.clone()
    }

    async fn place(
        &self,
        dispatcher: &Dispatcher<SqliteStore>,
        order: Order,
    ) -> Result<Option<Uuid>> {
        // `IMMEDIATE`: one that reads first may be refused when it comes to write.
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO orders (number) VALUES (?1)")
            .bind(order.number)
            .execute(&mut *tx)
            .await?;
        let event = dispatcher.enqueue_in(&mut tx, order.event()?).await?;
        if !order.pays {
            tx.rollback().await?;
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(event))
    }

    async fn orders(&self) -> Result<Vec<i64>> {
        let numbers = sqlx::query_scalar("SELECT number FROM orders ORDER BY number");
        Ok(numbers.fetch_all(&self.pool).await?)
    }
}
