//! The shop on Postgres.

use sqlx::postgres::PgPool;
use uuid::Uuid;
use webhook_delivery::{Dispatcher, PgStore};

use crate::{Order, Result, Shop};

pub(crate) struct PgShop {
    pool: PgPool,
    store: PgStore,
}

impl PgShop {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        println!("A shop on Postgres, in the schema transactional_example\n");
        let pool = PgPool::connect(url).await?;
        drop_schema(&pool).await?;
        // The engine's tables have a schema of their own; `webhook` unless set.
        let store = PgStore::builder()
            .schema("transactional_example")
            .open(pool.clone())
            .await?;
        sqlx::query("CREATE TABLE transactional_example.orders (number bigint PRIMARY KEY)")
            .execute(&pool)
            .await?;
        Ok(Self { pool, store })
    }

    /// Leaves the database as it was.
    pub(crate) async fn close(self) -> Result<()> {
        drop_schema(&self.pool).await
    }
}

async fn drop_schema(pool: &PgPool) -> Result<()> {
    sqlx::query("DROP SCHEMA IF EXISTS transactional_example CASCADE")
        .execute(pool)
        .await?;
    Ok(())
}

impl Shop for PgShop {
    type Store = PgStore;

    fn store(&self) -> PgStore {
        self.store.clone()
    }

    async fn place(&self, dispatcher: &Dispatcher<PgStore>, order: Order) -> Result<Option<Uuid>> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO transactional_example.orders (number) VALUES ($1)")
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
        let numbers =
            sqlx::query_scalar("SELECT number FROM transactional_example.orders ORDER BY number");
        Ok(numbers.fetch_all(&self.pool).await?)
    }
}
