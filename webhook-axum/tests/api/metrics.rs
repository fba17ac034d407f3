//! `/metrics`: what Prometheus reads of what the API was used for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use http::{Method, header};
use serde_json::json;
use webhook_axum::{Auth, Metrics, probes, router};
use webhook_core::metrics::{METRICS, MetricKind};
use webhook_core::testing::{Intercepted, ManualClock, ScriptedTransport};
use webhook_core::{
    ClaimOptions, Clock, Dispatcher, Error, ErrorKind, MemoryStore, NewEvent, Store,
    TransportErrorKind,
};

use crate::support::{App, ByWord, send};

/// An API with metrics of its own, whatever other tests do at the same time.
fn app(auth: &Auth) -> App {
    let (recorder, metrics) = Metrics::recorder();
    let app = metrics::with_local_recorder(&recorder, || App::with(auth.clone()));
    with_metrics(app, &metrics, auth)
}

fn with_metrics(app: App, metrics: &Metrics, auth: &Auth) -> App {
    let routes = metrics.router(app.dispatcher.clone(), auth.clone());
    App {
        router: app.router.merge(routes),
        ..app
    }
}

/// Each series with its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let samples = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    samples.map(parse).collect()
}

async fn scraped(app: &App) -> BTreeMap<String, f64> {
    let answer = app.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    series(&answer.text)
}

/// One event that fails twice and is then delivered, a dead letter, and one that waits to be tried again.
async fn use_it(app: &App) {
    app.endpoint(json!({})).await;
    app.transport.push(503);
    app.transport.push(TransportErrorKind::Timeout);
    let event = json!({"event_type": "a", "data": 1});
    app.event(event.clone()).await;
    for _ in 0..3 {
        app.deliver().await;
        app.clock.advance(Duration::from_secs(600));
    }
    for status in [422, 404] {
        app.transport.push(status);
        app.event(event.clone()).await;
        app.deliver().await;
    }
    let too_large = NewEvent::raw("a", vec![b' '; 300_000]).unwrap();
    app.dispatcher.enqueue(too_large).await.unwrap_err();
    app.clock.advance(Duration::from_secs(10));
}

#[tokio::test]
async fn metrics_tell_what_happened_and_what_waits() {
    let app = app(&Auth::none());
    use_it(&app).await;
    let found = scraped(&app).await;
    let expected = [
        ("webhook_events_accepted_total", 3.0),
        (r#"webhook_events_refused_total{reason="invalid"}"#, 1.0),
        (r#"webhook_events_refused_total{reason="store"}"#, 0.0),
        ("webhook_enqueue_seconds_count", 4.0),
        (r#"webhook_attempts_total{outcome="succeeded"}"#, 1.0),
        (r#"webhook_attempts_total{outcome="client_error"}"#, 2.0),
        (r#"webhook_attempts_total{outcome="server_error"}"#, 1.0),
        (r#"webhook_attempts_total{outcome="timeout"}"#, 1.0),
        (r#"webhook_attempts_total{outcome="unanswered"}"#, 0.0),
        ("webhook_attempt_duration_seconds_count", 5.0),
        ("webhook_first_attempt_delay_seconds_count", 3.0),
        (
            r#"webhook_first_attempt_delay_seconds_bucket{le="0.005"}"#,
            3.0,
        ),
        ("webhook_enqueue_to_delivered_seconds_count", 1.0),
        (
            r#"webhook_enqueue_to_delivered_seconds_bucket{le="900"}"#,
            0.0,
        ),
        (
            r#"webhook_enqueue_to_delivered_seconds_bucket{le="3600"}"#,
            1.0,
        ),
        (r#"webhook_deliveries_ended_total{status="succeeded"}"#, 1.0),
        (r#"webhook_deliveries_ended_total{status="failed"}"#, 1.0),
        (r#"webhook_dead_letters_total{cause="endpoint"}"#, 1.0),
        (r#"webhook_dead_letters_total{cause="system"}"#, 0.0),
        ("webhook_backlog", 1.0),
        ("webhook_parked", 0.0),
        ("webhook_leased", 0.0),
        ("webhook_in_flight", 0.0),
        ("webhook_slots", 0.0),
        ("webhook_store_up", 1.0),
        ("webhook_queue_up", 1.0),
    ];
    for (series, value) in expected {
        assert_eq!(found.get(series), Some(&value), "{series} in {found:#?}");
    }
    // The retry of the 404 came due 5 s after it, within 20 %.
    let lag = found["webhook_due_lag_seconds"];
    assert!((4.0..=6.0).contains(&lag), "{lag}");
    assert!(found["webhook_audit_round_seconds"].is_nan());
    assert!(found[r#"webhook_store_call_seconds_count{operation="record"}"#] > 0.0);
}

#[tokio::test]
async fn every_metric_is_there_from_the_start_with_the_labels_of_the_list_only() {
    let app = app(&Auth::none());
    let before: Vec<_> = scraped(&app).await.into_keys().collect();
    use_it(&app).await;
    let after: Vec<_> = scraped(&app).await.into_keys().collect();
    assert_eq!(before, after, "use adds no series");
    for metric in METRICS {
        let name = match metric.kind {
            MetricKind::Histogram(_) => format!("{}_count", metric.name),
            _ => metric.name.to_owned(),
        };
        let expected: Vec<_> = match metric.label {
            None => vec![name.clone()],
            Some(label) => {
                let series = label.values.iter();
                series
                    .map(|value| format!(r#"{name}{{{}="{value}"}}"#, label.name))
                    .collect()
            }
        };
        for series in expected {
            assert!(after.contains(&series), "{series}");
        }
    }
    let names = |series: &String| series.split('{').next().unwrap().to_owned();
    let known = |name: &str| METRICS.iter().any(|metric| name.starts_with(metric.name));
    assert!(after.iter().map(names).all(|name| known(&name)));
}

#[tokio::test]
async fn a_breaker_and_a_disabled_endpoint_are_counted() {
    let app = app(&Auth::none());
    app.endpoint(json!({})).await;
    for _ in 0..10 {
        app.transport.push(500);
        app.event(json!({"event_type": "a", "data": 1})).await;
    }
    app.deliver().await;
    let found = scraped(&app).await;
    assert_eq!(
        found[r#"webhook_breaker_transitions_total{state="open"}"#],
        1.0
    );
    assert_eq!(found[r#"webhook_breakers{state="open"}"#], 1.0);
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(
        scraped(&app).await[r#"webhook_breakers{state="half_open"}"#],
        1.0
    );
    app.transport.push(410);
    app.deliver().await;
    let found = scraped(&app).await;
    assert_eq!(
        found[r#"webhook_endpoints_disabled_total{reason="gone"}"#],
        1.0
    );
}

#[tokio::test]
async fn leases_that_ended_before_their_claim_was_settled_are_counted() {
    let (recorder, metrics) = Metrics::recorder();
    let (store, clock) = (MemoryStore::new(), ManualClock::default());
    let transport = ScriptedTransport::default();
    let builder = Dispatcher::builder(store.clone())
        .transport(transport.clone())
        .clock(clock.clone());
    let dispatcher = metrics::with_local_recorder(&recorder, || builder.build())
        .unwrap()
        .erase();
    let app = App {
        router: router(dispatcher.clone(), Auth::none()),
        dispatcher,
        transport,
        clock: clock.clone(),
    };
    let app = with_metrics(app, &metrics, &Auth::none());
    app.endpoint(json!({})).await;
    app.event(json!({"event_type": "a", "data": 1})).await;
    // Of a process that dies.
    let claim = ClaimOptions::new(1, Duration::from_secs(60));
    let claimed = store.queue().unwrap().claim(claim, Some(clock.now())).await;
    assert_eq!(claimed.unwrap().leases.len(), 1);
    app.deliver().await;
    let reclaimed = async || scraped(&app).await["webhook_reclaimed_leases_total"];
    assert_eq!(reclaimed().await, 0.0);
    clock.advance(Duration::from_secs(61));
    app.deliver().await;
    assert_eq!(reclaimed().await, 1.0);
}

#[tokio::test]
async fn a_store_that_is_away_is_told_by_its_metrics_and_counted_by_operation() {
    let (recorder, metrics) = Metrics::recorder();
    let away = Intercepted::new(MemoryStore::new(), |operation| async move {
        Err(Error::new(ErrorKind::Unavailable, operation))
    });
    let (transport, clock) = (ScriptedTransport::default(), ManualClock::default());
    let builder = Dispatcher::builder(away)
        .transport(transport.clone())
        .clock(clock.clone());
    let dispatcher = metrics::with_local_recorder(&recorder, || builder.build())
        .unwrap()
        .erase();
    let router = probes(dispatcher.clone());
    let app = App {
        dispatcher,
        transport,
        clock,
        router,
    };
    let app = with_metrics(app, &metrics, &Auth::none());
    let enqueued = app.dispatcher.enqueue(NewEvent::data("a", "1").unwrap());
    enqueued.await.unwrap_err();
    let found = scraped(&app).await;
    assert_eq!(found["webhook_store_up"], 0.0);
    assert_eq!(
        found[r#"webhook_events_refused_total{reason="store"}"#],
        1.0
    );
    assert!(found["webhook_endpoints_failing"].is_nan());
    assert_eq!(
        found[r#"webhook_store_errors_total{operation="vitals"}"#],
        1.0
    );
    assert_eq!(
        found[r#"webhook_store_errors_total{operation="schemas"}"#],
        1.0
    );
    assert_eq!(
        found[r#"webhook_store_errors_total{operation="other"}"#],
        0.0
    );
}

#[tokio::test]
async fn people_who_wait_for_each_other_are_no_failure_of_the_store() {
    let (recorder, metrics) = Metrics::recorder();
    let busy = Intercepted::new(MemoryStore::new(), |operation| async move {
        match operation {
            "events" => Err(Error::new(ErrorKind::Overloaded, operation)),
            _ => Ok(()),
        }
    });
    let (transport, clock) = (ScriptedTransport::default(), ManualClock::default());
    let builder = Dispatcher::builder(busy)
        .transport(transport.clone())
        .clock(clock.clone());
    let dispatcher = metrics::with_local_recorder(&recorder, || builder.build())
        .unwrap()
        .erase();
    let router = router(dispatcher.clone(), Auth::none());
    let app = App {
        dispatcher,
        transport,
        clock,
        router,
    };
    let app = with_metrics(app, &metrics, &Auth::none());
    assert_eq!(app.get("/events").await.status, 503);
    let found = scraped(&app).await;
    assert_eq!(found["webhook_store_up"], 1.0);
    assert_eq!(
        found[r#"webhook_store_errors_total{operation="events"}"#],
        0.0
    );
}

#[tokio::test]
async fn who_sees_all_tenants_may_read_metrics_and_nobody_else() {
    let app = app(&Auth::custom(ByWord));
    let get = async |who: &str| {
        let headers = [("authorization", who)];
        send(&app.router, Method::GET, "/metrics", &headers, "").await
    };
    let answer = get("viewer").await;
    assert_eq!(answer.status, 200);
    let content_type = &answer.headers[header::CONTENT_TYPE];
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(get("viewer x").await.error(), (403, "forbidden".into()));
    assert_eq!(get("nobody").await.error(), (401, "unauthorized".into()));
    let answer = send(&app.router, Method::GET, "/metrics", &[], "").await;
    assert_eq!(answer.error(), (401, "unauthorized".into()));
    let answer = send(&app.router, Method::POST, "/metrics", &[], "").await;
    assert_eq!(answer.error(), (405, "method_not_allowed".into()));
}

/// `cargo xtask test` gives it to promtool.
#[tokio::test]
async fn the_text_is_kept_for_those_who_check_it() {
    let app = app(&Auth::none());
    use_it(&app).await;
    let text = app.get("/metrics").await.text;
    for metric in METRICS {
        let head = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
        assert!(text.contains(&head), "{head}");
        assert!(
            text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)),
            "{head}"
        );
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::write(folder.join("metrics.txt"), text).unwrap();
}

#[test]
fn a_router_without_metrics_has_no_such_path() {
    webhook_core::testing::run(async {
        let app = App::open();
        let nested: axum::Router = router(app.dispatcher.clone(), Auth::none());
        let answer = send(&nested, Method::GET, "/metrics", &[], "").await;
        assert_eq!(answer.error(), (404, "not_found".into()));
    });
}
