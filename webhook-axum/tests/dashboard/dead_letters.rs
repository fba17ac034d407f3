//! Dead letters: what a row counts is what its links select.

use std::time::Duration;

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::testing::{ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{Dispatcher, MemoryStore, NewEndpoint, NewEvent};

use super::{CSRF, form, get, send};

const AGE: Duration = Duration::from_secs(3_600);

/// One that was refused for good, and one that nobody attempted in time, of the same endpoint.
async fn two_dead_letters() -> Router {
    let clock = ManualClock::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::new([400]))
        .clock(clock.clone())
        .max_age(AGE)
        .build()
        .unwrap()
        .erase();
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    dispatcher.endpoints().create(new).await.unwrap();
    let event = || NewEvent::json("a", &1).unwrap();
    dispatcher.enqueue(event()).await.unwrap();
    fast_forward(&dispatcher, &clock, Duration::ZERO)
        .await
        .unwrap();
    dispatcher.enqueue(event()).await.unwrap();
    clock.advance(AGE * 2);
    dispatcher.step().await.unwrap();
    router(dispatcher, Auth::none())
}

/// The queries of the page's links to `page`.
fn links<'a>(text: &'a str, page: &str) -> Vec<&'a str> {
    let start = format!("href=\"./{page}?");
    let ends = text.split(&*start).skip(1);
    ends.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn a_replay_is_offered_only_of_what_a_filter_can_select() {
    let app = two_dead_letters().await;
    let text = get(&app, "/dashboard/dead-letters").await.text;
    assert!(
        text.contains("<td>http_400</td>") && text.contains("<td>expired</td>"),
        "{text}"
    );
    assert_eq!(links(&text, "deliveries").len(), 1, "{text}");
    let replays = links(&text, "replays/new");
    assert_eq!(replays.len(), 2, "of one row, and of all: {text}");
    assert_eq!(replays[1], "status=failed");
}

#[tokio::test]
async fn a_rows_links_select_what_it_counts() {
    let app = two_dead_letters().await;
    let text = get(&app, "/dashboard/dead-letters").await.text;
    let query = links(&text, "replays/new")[0].replace("&#38;", "&");
    assert_eq!(links(&text, "deliveries")[0].replace("&#38;", "&"), query);
    let count = get(&app, &format!("/dashboard/replays/new?{query}")).await;
    assert!(
        count
            .text
            .contains("<strong>1</strong> deliveries would be made"),
        "{}",
        count.text
    );
    let list = get(&app, &format!("/dashboard/deliveries?{query}")).await;
    assert_eq!(list.text.matches("href=\"./deliveries/").count(), 1);
}

#[tokio::test]
async fn a_replay_names_what_it_selects_and_leads_to_what_it_made() {
    let app = two_dead_letters().await;
    let text = get(&app, "/dashboard/dead-letters").await.text;
    let query = links(&text, "replays/new")[0].replace("&#38;", "&");
    let query = format!("{query}&since=2023-11-14T22:13");
    let asked = get(&app, &format!("/dashboard/replays/new?{query}")).await;
    let conditions = [
        "<dd>https://example.com/</dd>",
        "<dd>http_400</dd>",
        "<dd><time datetime=\"2023-11-14T22:13:00.000000Z\">",
    ];
    for condition in conditions {
        assert!(
            asked.text.contains(condition),
            "{condition}: {}",
            asked.text
        );
    }
    assert!(
        asked
            .text
            .contains("<a href=\"../dead-letters\">Cancel</a>")
    );
    let started = send(
        &app,
        form("/dashboard/replays"),
        &format!("csrf={CSRF}&{query}"),
    )
    .await;
    let place = started.headers[http::header::LOCATION].to_str().unwrap();
    let page = get(
        &app,
        &format!("/dashboard/{}", place.trim_start_matches("./")),
    )
    .await
    .text;
    for condition in conditions {
        assert!(page.contains(condition), "{condition}: {page}");
    }
    assert!(page.contains("Passed over is what"), "{page}");
    let made = page.split("href=\"../deliveries?").nth(1).unwrap();
    let made = made.split('"').next().unwrap().replace("&#38;", "&");
    assert!(made.contains("endpoint_id="), "{made}");
    let list = get(&app, &format!("/dashboard/deliveries?{made}")).await;
    assert_eq!(list.status, 200, "{}", list.text);
}

#[tokio::test]
async fn nothing_is_started_when_all_was_replayed_since() {
    let app = two_dead_letters().await;
    let text = get(&app, "/dashboard/dead-letters").await.text;
    assert!(text.contains("A replay passes over what was"), "{text}");
    assert!(text.contains("would now send 2."), "{text}");
    let query = links(&text, "replays/new")[0].replace("&#38;", "&");
    let path = format!("/dashboard/replays/new?{query}");
    let before = get(&app, &path).await.text;
    assert!(before.contains("<button>Start</button>"), "{before}");
    let list = get(&app, &format!("/dashboard/deliveries?{query}"))
        .await
        .text;
    let id = list.split("href=\"./deliveries/").nth(1).unwrap();
    let id = id.split('"').next().unwrap();
    let replay = form(&format!("/dashboard/deliveries/{id}/replay"));
    let replayed = send(&app, replay, &format!("csrf={CSRF}")).await;
    assert_eq!(replayed.status, 303, "{}", replayed.text);
    let rest = get(&app, "/dashboard/dead-letters").await.text;
    let told = "would now send 1, and pass over 1: replayed already, or without an endpoint.";
    assert!(rest.contains(told), "{rest}");
    let after = get(&app, &path).await.text;
    assert!(after.contains("There is nothing to start"), "{after}");
    assert!(!after.contains("<button>Start</button>"), "{after}");
}
