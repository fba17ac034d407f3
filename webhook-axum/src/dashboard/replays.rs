//! `/dashboard/replays`: bulk replays. A replay is counted first, then paced, watched and perhaps cancelled.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use webhook_core::{EndpointReplay, NewReplay, Replay, ReplayCount, ReplaySelection, ReplayState};

use super::deliveries::{Asked, cursor, filter, query, text_of, url_query};
use super::format::from_form;
use super::selected::{conditions, made};
use super::session::Fields;
use super::shell::{PageError, Shell, page};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{Id, Query};
use crate::page::{Limit, page_request};
use crate::router::Api;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/dashboard/replays", get(list).post(start))
        .route("/dashboard/replays/new", get(count))
        .route("/dashboard/replays/{id}", get(show))
        .route("/dashboard/replays/{id}/cancel", post(cancel))
}

#[derive(Template)]
#[template(path = "replays.html")]
struct ListPage {
    shell: Shell,
    replays: Vec<Replay>,
    next: Option<String>,
}

async fn list(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let found = caller
        .replays()
        .list(page_request(Limit::default(), cursor(&asked)?))
        .await?;
    Ok(page(&ListPage {
        shell,
        next: query(&asked, found.next),
        replays: found.items,
    }))
}

#[derive(Template)]
#[template(path = "replay_new.html")]
struct CountPage {
    shell: Shell,
    asked: Asked,
    selected: Vec<(&'static str, String)>,
    count: ReplayCount,
    /// The page to go back to, below `/dashboard/`.
    back: String,
}

async fn count(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let (caller, selection) = selection(caller, &asked)?;
    let count = caller.replays().count(&selection).await?;
    let tenant = Some(text_of(&asked, "tenant").to_owned()).filter(|it| !it.is_empty());
    Ok(page(&CountPage {
        shell,
        selected: conditions(&caller, &selection, tenant).await,
        back: back(&asked),
        asked,
        count,
    }))
}

/// Where a selection was probably made.
fn back(asked: &Asked) -> String {
    match (text_of(asked, "of"), text_of(asked, "endpoint_id")) {
        ("endpoint", id) => format!("endpoints/{id}"),
        ("deliveries", _) => {
            let search = asked.iter().filter(|(name, _)| *name != "of");
            format!("deliveries?{}", url_query(search))
        }
        _ if text_of(asked, "status") == "failed" => "dead-letters".to_owned(),
        _ => "deliveries".to_owned(),
    }
}

/// What is meant: all that an endpoint should have got since a time, or the deliveries that match.
fn selection(caller: Caller, asked: &Asked) -> Result<(Caller, ReplaySelection), ApiError> {
    let (tenant, wanted) = filter(asked, caller.audience())?;
    let caller = caller.narrowed(tenant)?;
    let selection = match (text_of(asked, "of"), wanted.endpoint_id, wanted.since) {
        ("endpoint", Some(endpoint_id), Some(since)) => ReplaySelection::Endpoint(EndpointReplay {
            endpoint_id,
            since,
            until: wanted.until,
            status: wanted.status,
        }),
        ("endpoint", ..) => return Err(ApiError::invalid_request("since when? Give a time")),
        _ => ReplaySelection::Deliveries(wanted),
    };
    Ok((caller, selection))
}

async fn start(shell: Shell, caller: Caller, fields: Fields) -> Result<Response, PageError> {
    let mut asked = fields.all();
    for name in ["since", "until"] {
        let text = from_form(text_of(&asked, name));
        asked.insert(name.to_owned(), text);
    }
    let (caller, selection) = selection(caller, &asked)?;
    let mut new = NewReplay::new(selection).created_by(caller.name());
    if let Some(pace) = fields.get("pace") {
        let pace = pace
            .parse()
            .map_err(|_| ApiError::invalid_request("pace must be a whole number"))?;
        new = new.pace(pace);
    }
    let replay = caller.replays().start(new).await?;
    Ok(shell.goto(&format!("replays/{}", replay.id)))
}

#[derive(Template)]
#[template(path = "replay.html")]
struct DetailPage {
    shell: Shell,
    replay: Replay,
    selected: Vec<(&'static str, String)>,
    /// The query of a list with what it made.
    made: String,
}

async fn show(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    let replay = caller.replays().get(id).await?;
    let tenant = replay.tenant.as_ref().map(ToString::to_string);
    Ok(page(&DetailPage {
        shell,
        selected: conditions(&caller, &replay.selection, tenant).await,
        made: made(&replay),
        replay,
    }))
}

async fn cancel(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    caller.replays().cancel(id).await?;
    Ok(shell.goto(&format!("replays/{id}")))
}
