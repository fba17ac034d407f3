//! What each page is made of: for screen readers, for the keyboard, and for the script.

use std::time::Duration;

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::testing::{ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    DeliveryFilter, Dispatcher, MemoryStore, NewCatalogueEntry, NewEndpoint, NewEvent, PageRequest,
};

use super::{CSRF, SCREENS, form, get, send};

/// An engine that delivered one event and gave up another, and every page there is of it.
async fn pages() -> Vec<(String, String)> {
    let clock = ManualClock::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::new([200, 400]))
        .clock(clock.clone())
        .build()
        .unwrap()
        .erase();
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    let endpoint = dispatcher.endpoints().create(new).await.unwrap().id;
    let entry = NewCatalogueEntry::new("a".parse().unwrap()).example("{}");
    dispatcher.event_types().put(entry).await.unwrap();
    let mut paths: Vec<_> = SCREENS.map(str::to_owned).into();
    for _ in 0..2 {
        let event = NewEvent::json("a", &1).unwrap();
        let event = dispatcher.enqueue(event).await.unwrap();
        paths.push(format!("/dashboard/events/{event}"));
    }
    fast_forward(&dispatcher, &clock, Duration::ZERO)
        .await
        .unwrap();
    paths.push(format!("/dashboard/endpoints/{endpoint}"));
    paths.push(format!("/dashboard/endpoints/{endpoint}/edit"));
    paths.push("/dashboard/event-types?edit=a".to_owned());
    paths.push("/dashboard/replays/new?status=failed".to_owned());
    let some = PageRequest {
        before: None,
        limit: 5,
    };
    let all = DeliveryFilter::default();
    let found = dispatcher.deliveries().list(&all, some).await.unwrap();
    assert_eq!(found.items.len(), 2);
    let deliveries = found.items.iter();
    paths.extend(deliveries.map(|it| format!("/dashboard/deliveries/{}", it.id)));
    let app: Router = router(dispatcher, Auth::none());
    let replay = format!("csrf={CSRF}&status=failed");
    let replay = send(&app, form("/dashboard/replays"), &replay).await;
    let replay = replay.headers[http::header::LOCATION].to_str().unwrap();
    paths.push(format!("/dashboard/{}", replay.trim_start_matches("./")));
    let mut pages = Vec::new();
    for path in paths {
        let answer = get(&app, &path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        pages.push((path, answer.text));
    }
    pages
}

/// The opening tags of these elements.
fn tags<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("<{name}");
    let ends = page.split(&*start).skip(1);
    let is_whole = |rest: &&str| rest.starts_with([' ', '>']);
    ends.filter(is_whole)
        .map(|rest| rest.split('>').next().unwrap())
        .collect()
}

#[tokio::test]
async fn each_page_has_one_title_and_its_headings_skip_no_level() {
    for (path, page) in pages().await {
        assert_eq!(tags(&page, "h1").len(), 1, "{path}");
        assert!(page.contains("<html lang=\"en\">"), "{path}");
        let levels = page.split("<h").skip(1);
        let levels = levels.filter_map(|it| it.chars().next()?.to_digit(10));
        levels.fold(0, |before, level| {
            assert!(level <= before + 1, "{path}: h{level} after h{before}");
            level
        });
    }
}

#[tokio::test]
async fn each_table_says_what_it_is_of_and_each_column_what_it_holds() {
    for (path, page) in pages().await {
        let tables = tags(&page, "table").len();
        assert_eq!(tags(&page, "caption").len(), tables, "{path}");
        for column in tags(&page, "th") {
            assert!(column.contains("scope=\"col\""), "{path}: {column}");
        }
        // What is scrolled must be reached by the keyboard.
        for class in tags(&page, "div") {
            let is_scrolled = class.contains("class=\"scroll\"");
            assert!(!is_scrolled || class.contains("tabindex=\"0\""), "{path}");
        }
    }
}

#[tokio::test]
async fn each_field_stands_in_its_label() {
    for (path, page) in pages().await {
        let outside: String = page
            .split("<label")
            .map(|part| part.split_once("</label>").map_or(part, |(_, rest)| rest))
            .collect();
        for name in ["input", "select", "textarea"] {
            for field in tags(&outside, name) {
                assert!(field.contains("type=\"hidden\""), "{path}: {field}");
            }
        }
    }
}

#[tokio::test]
async fn the_first_thing_on_a_page_leads_past_its_navigation() {
    for (path, page) in pages().await {
        let first = tags(&page, "a")[0];
        assert!(first.contains("href=\"#main\""), "{path}: {first}");
        assert_eq!(page.matches("id=\"main\"").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn what_happens_is_followed_and_what_is_filled_in_is_not() {
    for (path, page) in pages().await {
        let is_form = ["/new", "/edit", "/event-types"]
            .iter()
            .any(|end| path.split('?').next().unwrap().ends_with(end));
        let main = tags(&page, "main")[0];
        assert_eq!(main.contains("data-live"), !is_form, "{path}");
        assert_eq!(page.matches("role=\"status\"").count(), 2, "{path}");
    }
}

#[tokio::test]
async fn times_are_in_utc_until_a_script_knows_better() {
    for (path, page) in pages().await {
        for part in page.split("<time ").skip(1) {
            let (tag, rest) = part.split_once('>').unwrap();
            assert!(
                tag.starts_with("datetime=\"2") && tag.ends_with("Z\""),
                "{path}"
            );
            let text = rest.split('<').next().unwrap();
            assert!(text.ends_with(" UTC"), "{path}: {text}");
        }
    }
}

#[tokio::test]
async fn nothing_that_is_made_right_now_is_asked_for_again() {
    let app: Router = router(super::dispatcher(), Auth::none());
    let new = format!("csrf={CSRF}&url=https%3A%2F%2Fexample.com");
    let made = send(&app, form("/dashboard/endpoints"), &new).await;
    assert!(made.text.contains("whsec_"));
    assert!(!tags(&made.text, "main")[0].contains("data-live"));
}
