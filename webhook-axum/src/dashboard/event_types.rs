//! `/dashboard/event-types`: the catalogue, and a way to send a test event.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use webhook_core::{CatalogueEntry, NewCatalogueEntry, NewEvent, Tenant};

use super::deliveries::{Asked, cursor, query};
use super::format::capital;
use super::session::Fields;
use super::shell::{PageError, Shell, page, page_with};
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
    draft: Draft,
}

/// The form of an entry, with what is there or was typed.
#[derive(Template)]
#[template(path = "event_type_form.html")]
struct FormPage {
    shell: Shell,
    error: Option<String>,
    draft: Draft,
}

#[derive(Default)]
struct Draft {
    name: String,
    description: String,
    schema: String,
    example: String,
}

impl Draft {
    fn of(entry: &CatalogueEntry) -> Self {
        let text = |kept: &Option<Arc<str>>| kept.as_deref().unwrap_or_default().to_owned();
        Self {
            name: entry.name.to_string(),
            description: entry.description.clone(),
            schema: text(&entry.schema),
            example: text(&entry.example),
        }
    }

    fn typed(fields: &Fields) -> Self {
        let text = |name| fields.get(name).unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            description: text("description"),
            schema: text("schema"),
            example: text("example"),
        }
    }

    fn entry(&self) -> Result<NewCatalogueEntry, ApiError> {
        let mut entry = NewCatalogueEntry::new(self.name.parse()?).description(&*self.description);
        if !self.schema.is_empty() {
            if let Err(error) = serde_json::from_str::<Unambiguous>(&self.schema) {
                return Err(ApiError::invalid_request(format!("schema: {error}")));
            }
            entry = entry.schema(&*self.schema);
        }
        if !self.example.is_empty() {
            entry = entry.example(&*self.example);
        }
        Ok(entry)
    }
}

async fn list(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    if let Some(name) = asked.get("edit") {
        return edit(shell, &caller, name).await;
    }
    let found = caller
        .event_types()
        .list(page_request(Limit::default(), cursor(&asked)?))
        .await?;
    Ok(page(&ListPage {
        shell,
        next: query(&asked, found.next),
        entries: found.items,
        draft: Draft::default(),
    }))
}

async fn edit(shell: Shell, caller: &Caller, name: &str) -> Result<Response, PageError> {
    let types = caller.host_wide()?.event_types();
    let entry = types.get(&name.parse()?).await?;
    Ok(page(&FormPage {
        shell,
        error: None,
        draft: Draft::of(&entry),
    }))
}

async fn put(shell: Shell, caller: Caller, fields: Fields) -> Result<Response, PageError> {
    let draft = Draft::typed(&fields);
    let types = caller.host_wide()?.event_types();
    let put = async { Ok::<_, ApiError>(types.put(draft.entry()?).await?) };
    match put.await {
        Ok(_) => Ok(shell.goto("event-types")),
        Err(error) => Ok(refused(shell, &error, draft)),
    }
}

fn refused(shell: Shell, error: &ApiError, draft: Draft) -> Response {
    let status = error.status();
    let error = Some(capital(error.sentence()));
    page_with(
        status,
        &FormPage {
            shell,
            error,
            draft,
        },
    )
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
