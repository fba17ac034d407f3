//! The catalogue of event types.

use std::sync::Arc;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use webhook_core::{CatalogueEntry, EventType, Page, PageRequest, Schemas, Scope};

use crate::error::corrupt;
use crate::read::Select;
use crate::rows::{readable, time};
use crate::store::Shared;

impl Shared {
    pub(crate) async fn put_event_type(
        &self,
        entry: &CatalogueEntry,
    ) -> sqlx::Result<CatalogueEntry> {
        let put = sqlx::query(self.database.sql.put_event_type.clone())
            .bind(entry.id)
            .bind(entry.name.as_str().to_owned())
            .bind(entry.description.clone())
            .bind(entry.schema.as_deref().map(str::to_owned))
            .bind(entry.example.as_deref().map(str::to_owned))
            .bind(entry.created_at.as_micros())
            .bind(entry.updated_at.as_micros());
        let mut tx = self.database.write().await?;
        let entry = event_type(&put.fetch_one(&mut *tx).await?)?;
        tx.commit().await?;
        Ok(entry)
    }

    pub(crate) async fn event_type(
        &self,
        name: &EventType,
    ) -> sqlx::Result<Option<CatalogueEntry>> {
        let mut reader = self.database.read().await?;
        let page = Select::new(&self.database.sql.event_types, &Scope::All)
            .and("name =", Some(name.as_str()))
            .page(&mut reader, PageRequest::first(1), "event type", event_type);
        Ok(page.await?.items.pop())
    }

    pub(crate) async fn event_types(
        &self,
        page: PageRequest,
    ) -> sqlx::Result<Page<CatalogueEntry>> {
        let mut reader = self.database.read().await?;
        Select::new(&self.database.sql.event_types, &Scope::All)
            .page(&mut reader, page, "event type", event_type)
            .await
    }

    pub(crate) async fn schemas(&self, known: i64) -> sqlx::Result<Option<Schemas>> {
        let mut reader = self.database.read().await?;
        self.schemas_on(&mut reader, known).await
    }

    pub(crate) async fn schemas_on(
        &self,
        connection: &mut SqliteConnection,
        known: i64,
    ) -> sqlx::Result<Option<Schemas>> {
        let schemas = sqlx::query(self.database.sql.schemas.clone()).bind(known);
        let rows = schemas.fetch_all(connection).await?;
        let version = rows.first().map(|row| row.try_get("version"));
        let version = version.transpose()?.unwrap_or_default();
        Ok((version != known).then(|| Schemas {
            version,
            schemas: readable(&rows, "schema", schema)
                .into_iter()
                .flatten()
                .collect(),
        }))
    }
}

fn event_type(row: &SqliteRow) -> sqlx::Result<CatalogueEntry> {
    Ok(CatalogueEntry {
        id: row.try_get("id")?,
        name: EventType::new(row.try_get("name")?).map_err(corrupt)?,
        description: row.try_get("description")?,
        schema: text(row, "schema")?,
        example: text(row, "example")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// A type and its schema; none in the row that only tells the version.
fn schema(row: &SqliteRow) -> sqlx::Result<Option<(EventType, Arc<str>)>> {
    let name: Option<&str> = row.try_get("name")?;
    let name = name.map(EventType::new).transpose().map_err(corrupt)?;
    Ok(name.zip(text(row, "schema")?))
}

fn text(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Arc<str>>> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.map(Into::into))
}
