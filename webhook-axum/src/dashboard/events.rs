//! `/dashboard/events`: events, and why each went where it did.

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use webhook_core::{Event, EventFilter, EventType, Tenant, Timestamp, Why};

use super::deliveries::{Asked, cursor, query, text_of};
use super::format::{Shown, from_form};
use super::names::Names;
use super::shell::{PageError, Shell, download, page};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::extract::{Id, Query, invalid_query};
use crate::page::{Limit, page_request, searched_back_to};
use crate::router::Api;

/// How far back payloads are searched, unless said.
const WINDOW: Duration = Duration::from_secs(86_400);

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/dashboard/events", get(list))
        .route("/dashboard/events/{id}", get(show))
        .route("/dashboard/events/{id}/body", get(body))
        .route("/dashboard/events/{id}/replay", post(replay))
}

#[derive(Template)]
#[template(path = "events.html")]
struct ListPage {
    shell: Shell,
    asked: Asked,
    events: Vec<Event>,
    next: Option<String>,
    /// Back to when was looked, if there was not enough for a page.
    searched: Option<Timestamp>,
}

async fn list(
    shell: Shell,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let wanted = filter(&asked, caller.now())?;
    let request = page_request(Limit::default(), cursor(&asked)?);
    let tenant = Some(text_of(&asked, "tenant")).filter(|it| !it.is_empty());
    let tenant = tenant
        .map(Tenant::new)
        .transpose()
        .map_err(|it| invalid_query(it.to_string()))?;
    let found = caller
        .narrowed(tenant)?
        .events()
        .list(&wanted, request)
        .await?;
    Ok(page(&ListPage {
        shell,
        searched: searched_back_to(&found, Limit::default()),
        next: query(&asked, found.next),
        asked,
        events: found.items,
    }))
}

fn filter(asked: &Asked, now: Timestamp) -> Result<EventFilter, ApiError> {
    let given = |name| Some(text_of(asked, name)).filter(|it| !it.is_empty());
    let time = |name| -> Result<Option<Timestamp>, ApiError> {
        let text = given(name).map(from_form);
        let time = text.map(|it| it.parse::<Timestamp>()).transpose();
        time.map_err(|_| invalid_query(format!("{name} must be a time")))
    };
    let text = given("q").map(str::to_owned);
    let (mut since, until) = (time("since")?, time("until")?);
    if let Some(text) = &text {
        let end = until.unwrap_or(now);
        let start = *since.get_or_insert(end - WINDOW);
        crate::routes::events::check_search(text, Some(start), end)?;
    }
    let event_type = given("event_type").map(EventType::new).transpose()?;
    let filter = EventFilter::default().event_type(event_type);
    Ok(filter.since(since).until(until).text(text))
}

#[derive(Template)]
#[template(path = "event.html")]
struct DetailPage {
    shell: Shell,
    why: Why,
    names: Names,
    body: Shown,
}

async fn show(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    let why = caller.events().why(id).await?;
    Ok(page(&DetailPage {
        shell,
        names: Names::of(&caller, why.endpoints.iter().map(|it| it.endpoint_id)).await?,
        body: Shown::of(&why.event.body),
        why,
    }))
}

async fn body(caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    let event = caller.events().get(id).await?;
    Ok(download("body.txt", event.body))
}

async fn replay(shell: Shell, caller: Caller, Id(id): Id) -> Result<Response, PageError> {
    caller.events().replay(id).await?;
    Ok(shell.goto(&format!("events/{id}")))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use webhook_core::Page;

    use super::*;

    #[test]
    fn a_search_that_was_broken_off_says_how_far_it_got_and_goes_on() {
        let at = Timestamp::from_seconds(1_700_000_000);
        let next = uuid::Builder::from_unix_timestamp_millis(1_700_000_000_500, &[7; 10]);
        let next = Some(next.into_uuid());
        let page_of = |next: Option<Uuid>| {
            let found: Page<Event> = Page {
                items: Vec::new(),
                next,
            };
            let asked = Asked::from([("q".to_owned(), "rare".to_owned())]);
            let page = ListPage {
                shell: Shell::at("/dashboard/events"),
                searched: searched_back_to(&found, Limit::default()),
                next: query(&asked, found.next),
                asked,
                events: found.items,
            };
            page.render().unwrap()
        };
        let text = page_of(next);
        let searched = format!("Searched back to <time datetime=\"{at}\">");
        assert!(text.contains(&searched), "{text}");
        assert!(text.contains("href=\"?q=rare&#38;cursor="), "{text}");
        assert!(text.contains("Search further back"), "{text}");
        let at_the_end = page_of(None);
        assert!(!at_the_end.contains("Searched"), "{at_the_end}");
    }
}
