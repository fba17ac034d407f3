//! The catalogue of event types.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use webhook_core::{CatalogueEntry, EventType, Page, PageRequest, Schemas};

use crate::column::{At, count};
use crate::read::{page_of, readable};
use crate::store::Shared;

impl Shared {
    pub(crate) async fn put_event_type(
        &self,
        entry: &CatalogueEntry,
    ) -> sqlx::Result<CatalogueEntry> {
        let put = self.sql.put_event_type.query_once();
        let put = put.bind(entry.id).bind(entry.name.as_str());
        let put = put.bind(&entry.description).bind(entry.schema.as_deref());
        let put = put.bind(entry.example.as_deref());
        let put = put.bind(At(entry.created_at)).bind(At(entry.updated_at));
        event_type(&self.only_row(put).await?)
    }

    pub(crate) async fn event_type(
        &self,
        name: &EventType,
    ) -> sqlx::Result<Option<CatalogueEntry>> {
        let found = self.event_types_named(Some(name), PageRequest::first(1));
        Ok(found.await?.items.pop())
    }

    pub(crate) async fn event_types(
        &self,
        page: PageRequest,
    ) -> sqlx::Result<Page<CatalogueEntry>> {
        self.event_types_named(None, page).await
    }

    async fn event_types_named(
        &self,
        name: Option<&EventType>,
        page: PageRequest,
    ) -> sqlx::Result<Page<CatalogueEntry>> {
        let query = self.sql.event_types.query_once().bind(page.before);
        let query = query.bind(count(page.limit).saturating_add(1));
        let query = query.bind(name.map(EventType::as_str));
        let rows = self.rows(query).await?;
        page_of(&rows, page, event_type)
    }

    pub(crate) async fn schemas(&self, known: i64) -> sqlx::Result<Option<Schemas>> {
        let rows = self.rows(self.sql.schemas.query().bind(known)).await?;
        schemas(&rows, known)
    }

    pub(crate) async fn schemas_in(
        &self,
        tx: &mut PgConnection,
        known: i64,
    ) -> sqlx::Result<Option<Schemas>> {
        let query = self.sql.schemas.query().bind(known);
        schemas(&query.fetch_all(tx).await?, known)
    }
}

/// What the rows tell: each has the version, and no type if that is known or there is no schema.
fn schemas(rows: &[PgRow], known: i64) -> sqlx::Result<Option<Schemas>> {
    let version = rows.first().map(|row| row.try_get("version"));
    let version = version.transpose()?.unwrap_or_default();
    Ok((version != known).then(|| Schemas {
        version,
        schemas: readable(rows, schema).into_iter().flatten().collect(),
    }))
}

fn schema(row: &PgRow) -> sqlx::Result<Option<(EventType, Arc<str>)>> {
    let name: Option<&str> = row.try_get("name")?;
    Ok(name.map(parsed).transpose()?.zip(text(row, "schema")?))
}

fn event_type(row: &PgRow) -> sqlx::Result<CatalogueEntry> {
    let At(created_at) = row.try_get("created_at")?;
    let At(updated_at) = row.try_get("updated_at")?;
    Ok(CatalogueEntry {
        id: row.try_get("id")?,
        name: parsed(row.try_get("name")?)?,
        description: row.try_get("description")?,
        schema: text(row, "schema")?,
        example: text(row, "example")?,
        created_at,
        updated_at,
    })
}

fn parsed(name: &str) -> sqlx::Result<EventType> {
    EventType::new(name).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn text(row: &PgRow, column: &str) -> sqlx::Result<Option<Arc<str>>> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.map(Into::into))
}
