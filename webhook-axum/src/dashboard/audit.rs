//! `/dashboard/audit`: who did what.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use webhook_core::{AuditAction, AuditEntry};

use super::deliveries::{Asked, query, read};
use super::shell::{PageError, Shell, page};
use crate::caller::Caller;
use crate::extract::Query;
use crate::router::Api;
use crate::routes::audit::{ListAudit, find};

const FIELDS: [&str; 7] = [
    "tenant", "actor", "action", "target", "since", "until", "cursor",
];

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/dashboard/audit", get(list))
}

#[derive(Template)]
#[template(path = "audit.html")]
struct ListPage {
    shell: Shell,
    asked: Asked,
    actions: [AuditAction; AuditAction::ALL.len()],
    entries: Vec<AuditEntry>,
    next: Option<String>,
}

async fn list(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let wanted: ListAudit = read(&asked, &FIELDS)?;
    let found = find(caller, wanted).await?;
    Ok(page(&ListPage {
        shell,
        next: query(&asked, found.next),
        asked,
        actions: AuditAction::ALL,
        entries: found.items,
    }))
}

/// The screen of what was acted on, below `/dashboard/`; it may be gone by now.
fn screen(entry: &AuditEntry) -> Option<String> {
    let (screen, _) = entry.action.as_str().split_once('.')?;
    match screen {
        "endpoint" | "event" => Some(format!("{screen}s/{}", entry.target)),
        "delivery" => Some(format!("deliveries/{}", entry.target)),
        "replay" => Some(format!("replays/{}", entry.target)),
        "event_type" => Some("event-types".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use webhook_core::Timestamp;

    use super::*;

    #[test]
    fn every_action_but_an_erasure_leads_to_what_it_was_done_to() {
        for action in AuditAction::ALL {
            let entry = AuditEntry {
                id: uuid::Uuid::nil(),
                at: Timestamp::from_seconds(0),
                actor: String::new(),
                tenant: None,
                action,
                target: "x".to_owned(),
                detail: String::new(),
            };
            let is_erasure = action == AuditAction::TenantDelete;
            assert_eq!(screen(&entry).is_none(), is_erasure, "{action}");
        }
    }
}
