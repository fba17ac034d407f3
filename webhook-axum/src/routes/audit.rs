//! `/audit`: who did what.

use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use webhook_core::{AuditAction, AuditEntry, AuditFilter, Page, Tenant, Timestamp};

use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::Query;
use crate::page::{Cursor, Limit, List, page_request};

pub(super) fn routes() -> Router<crate::router::Api> {
    Router::new().route("/audit", get(list))
}

/// What the OpenAPI document says of it.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(list))]
pub(super) struct Document;

/// Who did what.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/audit",
    params(ListAudit),
    responses((status = 200, body = List<AuditView>)),
))]
async fn list(caller: Caller, Query(query): Query<ListAudit>) -> Result<List<AuditView>, ApiError> {
    let page = find(caller, query).await?;
    Ok(List::of(&page, AuditView::of))
}

/// The entries that the query asks for, as far as the caller may see them.
pub(crate) async fn find(caller: Caller, query: ListAudit) -> Result<Page<AuditEntry>, ApiError> {
    let caller = caller.narrowed(query.tenant)?;
    let filter = AuditFilter::default()
        .actor(query.actor)
        .action(query.action.map(|GivenAction(action)| action))
        .target(query.target)
        .since(query.since)
        .until(query.until);
    let page = page_request(query.limit, query.cursor);
    Ok(caller.audit().list(&filter, page).await?)
}

/// The query of `GET /audit`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub(crate) struct ListAudit {
    tenant: Option<Tenant>,
    actor: Option<String>,
    action: Option<GivenAction>,
    target: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct GivenAction(AuditAction);

impl TryFrom<String> for GivenAction {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let action = word.parse().map(Self);
        action.map_err(|_| {
            let known = AuditAction::ALL.map(AuditAction::as_str);
            format!("action must be one of {}", known.join(", "))
        })
    }
}

/// An entry as answers show it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct AuditView {
    id: Uuid,
    at: Timestamp,
    actor: String,
    /// `null` if it concerns all tenants.
    tenant: Option<Tenant>,
    action: AuditAction,
    target: String,
    detail: String,
}

impl AuditView {
    fn of(entry: &AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            actor: entry.actor.clone(),
            tenant: entry.tenant.clone(),
            action: entry.action,
            target: entry.target.clone(),
            detail: entry.detail.clone(),
        }
    }
}
