//! `/dashboard/event-types`: the catalogue, and a way to send a test event.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use webhook_core::{CatalogueEntry, NewCatalogueEntry, NewEvent, Tenant};

use super::deliveries::{Asked, cursor, query};
use super::session::Fields;
use super::shell::{PageError, Shell, page};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{Query, invalid_query};
use crate::json::Unambiguous;
use crate::page::{Limit, page_request};
use crate::router::Api;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/dashboard/event-types", get(list).post(put))
        .route("/dashboard/event-types/send", post(send))
}

#[derive(Template)]
#[template(path = "event_types.html")]
struct ListPage {
    shell: Shell,
    entries: Vec<CatalogueEntry>,
    next: Option<String>,
}

async fn list(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let found = caller
        .event_types()
        .list(page_request(Limit::default(), cursor(&asked)?))
        .await?;
    Ok(page(&ListPage {
        shell,
        next: query(&asked, found.next),
        entries: found.items,
    }))
}

async fn put(shell: Shell, caller: Caller, fields: Fields) -> Result<Response, PageError> {
    let name = fields.get("name").unwrap_or_default().parse()?;
    let mut entry = NewCatalogueEntry::new(name);
    if let Some(text) = fields.get("description") {
        entry = entry.description(text);
    }
    if let Some(text) = fields.get("schema") {
        if let Err(error) = serde_json::from_str::<Unambiguous>(text) {
            return Err(ApiError::invalid_request(format!("schema: {error}")).into());
        }
        entry = entry.schema(text);
    }
    if let Some(text) = fields.get("example") {
        entry = entry.example(text);
    }
    caller.host_wide()?.event_types().put(entry).await?;
    Ok(shell.goto("event-types"))
}

/// A real event of the reader's tenant, or of the one they name.
async fn send(shell: Shell, caller: Caller, fields: Fields) -> Result<Response, PageError> {
    let tenant = fields.get("tenant").map(Tenant::new).transpose();
    let tenant = tenant.map_err(|it| invalid_query(it.to_string()))?;
    let data = fields.get("data").unwrap_or("{}").to_owned();
    let event = NewEvent::data(fields.get("event_type").unwrap_or_default(), data)?;
    let event = event.tenant(caller.tenant(tenant)?);
    let id = caller.send(event).await?;
    Ok(shell.goto(&format!("events/{id}")))
}
