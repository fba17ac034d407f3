//! Charts: what they say besides being seen, and that every endpoint has its own.

use std::time::Duration;

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::testing::{ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{Dispatcher, MemoryStore, NewEndpoint, NewEvent};

use super::get;

async fn delivered(endpoints: usize, statuses: &[u16]) -> Router {
    let clock = ManualClock::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(ScriptedTransport::new(statuses.iter().copied()))
        .clock(clock.clone())
        .build()
        .unwrap()
        .erase();
    for _ in 0..endpoints {
        let new = NewEndpoint::new("https://example.com".parse().unwrap());
        dispatcher.endpoints().create(new).await.unwrap();
    }
    for _ in statuses {
        let event = NewEvent::json("a", &1).unwrap();
        dispatcher.enqueue(event).await.unwrap();
        fast_forward(&dispatcher, &clock, Duration::ZERO)
            .await
            .unwrap();
    }
    router(dispatcher, Auth::none())
}

#[tokio::test]
async fn a_chart_has_a_scale_a_legend_times_and_a_sentence() {
    let app = delivered(1, &[200, 200, 400]).await;
    let page = get(&app, "/dashboard/?range=1h").await.text;
    for text in [
        "<title id=\"chart-title\">Attempts, the last 1h</title>",
        "<desc id=\"chart-desc\">2 succeeded, 1 failed. At most 3 in a step, that of 2023-11-14 22:13:00 UTC.</desc>",
        "<li>4</li>",
        "<li>2</li>",
        "</span> succeeded</li>",
        "</span> failed</li>",
        "<li>attempts in 1 min</li>",
        "<title>2023-11-14 22:13:00 UTC: 2 succeeded, 1 failed</title>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let axis = page.split("<p class=\"axis\">").nth(1).unwrap();
    let axis = axis.split("</p>").next().unwrap();
    assert_eq!(axis.matches("<time ").count(), 3, "{axis}");
}

#[tokio::test]
async fn every_endpoint_of_the_list_shows_how_it_does_however_many_there_are() {
    let app = delivered(120, &[200]).await;
    let page = get(&app, "/dashboard/endpoints").await.text;
    assert_eq!(page.matches("<td>100.0 %</td>").count(), 50, "{page}");
    let sentence = "aria-label=\"1 succeeded, 0 failed. At most 1 in a step";
    assert_eq!(page.matches(sentence).count(), 50, "{page}");
}

#[tokio::test]
async fn figures_fill_their_rows() {
    let app = delivered(1, &[200]).await;
    let page = get(&app, "/dashboard/endpoints").await.text;
    let id = page.split("href=\"./endpoints/").nth(2).unwrap();
    let endpoint = format!("/dashboard/endpoints/{}", id.split('"').next().unwrap());
    for path in ["/dashboard/", &endpoint] {
        let page = get(&app, path).await.text;
        for figures in page.split("<dl class=\"figures\">").skip(1) {
            let figures = figures.split("</dl>").next().unwrap();
            let count = figures.matches("<dt>").count();
            assert!(count == 3 || count % 4 == 0, "{path}: {count}");
        }
    }
}
