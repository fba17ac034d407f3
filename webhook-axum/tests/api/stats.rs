//! `/stats`: figures of what the API was used for.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use webhook_core::TransportErrorKind;

use crate::support::{App, send};

/// One event that fails twice and is then delivered, one dead letter, and one that waits.
async fn used(app: &App) -> (String, String) {
    let first = app
        .endpoint(json!({"tenant": "x", "event_types": ["a"]}))
        .await;
    let second = app.endpoint(json!({"tenant": "y"})).await;
    app.transport.push(503);
    app.transport.push(TransportErrorKind::Timeout);
    app.event(json!({"event_type": "a", "data": 1, "tenant": "x"}))
        .await;
    for _ in 0..3 {
        app.deliver().await;
        app.clock.advance(Duration::from_secs(600));
    }
    app.transport.push(422);
    app.event(json!({"event_type": "a", "data": 1, "tenant": "y"}))
        .await;
    app.deliver().await;
    app.transport.push(404);
    app.event(json!({"event_type": "a", "data": 1, "tenant": "y"}))
        .await;
    app.deliver().await;
    (first, second)
}

#[tokio::test]
async fn stats_tell_what_happened_and_what_waits() {
    let app = App::open();
    let (first, second) = used(&app).await;
    let stats = app.get("/stats").await.expect(200);
    assert_eq!(
        [
            &stats["accepted"],
            &stats["delivered"],
            &stats["failed"],
            &stats["cancelled"]
        ],
        [3, 1, 1, 0]
    );
    let attempts = json!({
        "total": 5, "succeeded": 1, "redirects": 0, "client_errors": 2, "server_errors": 1,
        "timeouts": 1, "unanswered": 0
    });
    assert_eq!(stats["attempts"], attempts);
    assert_eq!(
        [&stats["backlog"], &stats["parked"], &stats["in_flight"]],
        [0, 1, 0]
    );
    let due = stats["oldest_due"].as_str().unwrap();
    assert!(due > stats["now"].as_str().unwrap(), "{due} is to come");
    // Everything took no time, but the retries did.
    assert_eq!(stats["latency_ms"]["p99"], 0.064);
    let delay = stats["delay_ms"]["p50"].as_f64().unwrap();
    assert!((1_125_000.0..1_275_000.0).contains(&delay), "{delay}");

    assert_eq!(stats["endpoint_count"], 2);
    let endpoints = stats["endpoints"].as_array().unwrap();
    let of = |n: usize, field: &str| endpoints[n][field].clone();
    assert_eq!(
        [of(0, "endpoint_id"), of(1, "endpoint_id")],
        [first, second]
    );
    assert_eq!([of(0, "tenant"), of(1, "tenant")], ["x", "y"]);
    assert_eq!([of(0, "delivered"), of(1, "failed")], [1, 1]);
}

fn sum(series: &Value, field: &str) -> u64 {
    let points = series.as_array().unwrap();
    points.iter().map(|it| it[field].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_range_has_a_point_for_each_step() {
    let app = App::open();
    used(&app).await;
    for (range, step, points) in [
        ("1h", 60, 60),
        ("24h", 600, 144),
        ("7d", 3_600, 168),
        ("30d", 21_600, 120),
    ] {
        let stats = app.get(&format!("/stats?range={range}")).await.expect(200);
        assert_eq!(stats["range"], range);
        assert_eq!(stats["step_seconds"], step);
        assert_eq!(stats["series"].as_array().unwrap().len(), points);
        assert_eq!(stats["series"][0]["at"], stats["since"]);
        for field in ["accepted", "delivered", "failed"] {
            assert_eq!(
                sum(&stats["series"], field),
                stats[field],
                "{range} {field}"
            );
        }
        assert_eq!(stats["accepted"], 3, "{range}");
    }
    app.clock.advance(Duration::from_secs(3_600));
    let later = app.get("/stats?range=1h").await.expect(200);
    assert_eq!(later["attempts"]["total"], 0);
    assert_eq!(later["latency_ms"], Value::Null);
}

#[tokio::test]
async fn stats_of_one_endpoint_are_its_own() {
    let app = App::open();
    let (first, second) = used(&app).await;
    for (endpoint, attempts, parked) in [(&first, 3, 0), (&second, 2, 1)] {
        let path = format!("/stats?endpoint_id={endpoint}&range=1h");
        let stats = app.get(&path).await.expect(200);
        assert_eq!(stats["attempts"]["total"], attempts);
        assert_eq!(stats["endpoints"][0]["endpoint_id"], *endpoint);
        assert_eq!(stats["endpoint_count"], 1);
        assert_eq!([&stats["backlog"], &stats["parked"]], [0, parked]);
        assert_eq!(stats["oldest_due"].is_string(), parked > 0);
        assert_eq!(stats["in_flight"], Value::Null);
    }
    app.clock.advance(Duration::from_secs(3_600));
    let path = format!("/stats?endpoint_id={second}&range=1h");
    let due = app.get(&path).await.expect(200);
    assert_eq!([&due["backlog"], &due["parked"]], [1, 0]);
    app.call(Method::DELETE, &format!("/endpoints/{second}"), None)
        .await
        .expect(204);
    let gone = app.get(&path).await.expect(200);
    for nothing in ["backlog", "parked", "oldest_due"] {
        assert_eq!(gone[nothing], Value::Null, "{nothing}");
    }
}

#[tokio::test]
async fn a_tenant_sees_its_own_stats_only() {
    let app = App::guarded();
    let open = App {
        router: webhook_axum::router(app.dispatcher.clone(), webhook_axum::Auth::none()),
        dispatcher: app.dispatcher.clone(),
        transport: app.transport.clone(),
        clock: app.clock.clone(),
    };
    let (_, second) = used(&open).await;
    let get = async |path: &str, who: &str| {
        let headers = [("authorization", who)];
        send(&app.router, http::Method::GET, path, &headers, "").await
    };
    let own = get("/stats", "viewer x").await.expect(200);
    assert_eq!(
        [&own["accepted"], &own["delivered"], &own["failed"]],
        [1, 1, 0]
    );
    assert_eq!(own["endpoint_count"], 1);
    assert_eq!(own["backlog"], Value::Null, "it counts everybody's");
    let foreign = format!("/stats?endpoint_id={second}");
    let foreign = get(&foreign, "viewer x").await.expect(200);
    assert_eq!(foreign["attempts"]["total"], 0);
    assert_eq!(foreign["backlog"], Value::Null);
    let refused = get("/stats?tenant=y", "viewer x").await;
    assert_eq!(refused.error(), (403, "forbidden".into()));
    let narrowed = get("/stats?tenant=y", "viewer").await.expect(200);
    assert_eq!([&narrowed["accepted"], &narrowed["failed"]], [2, 1]);
}

#[tokio::test]
async fn unknown_ranges_and_parameters_are_refused() {
    let app = App::open();
    for query in [
        "range=",
        "range=2h",
        "range=1h&range=24h",
        "since=2023-11-14T22:13:20Z",
        "endpoint_id=x",
        "tenant=a%20b",
        "limit=1",
    ] {
        let answer = app.get(&format!("/stats?{query}")).await;
        assert_eq!(answer.error(), (400, "invalid_query".into()), "{query}");
    }
}

#[tokio::test]
async fn who_runs_the_engine_is_shown_the_processes_that_deliver() {
    let app = App::guarded();
    let stats = async |path: &str, who: &str| {
        let headers = [("authorization", who)];
        let answer = app.send(http::Method::GET, path, &headers, "").await;
        answer.expect(200)["processes"].clone()
    };
    assert_eq!(stats("/stats", "viewer").await, json!([]));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = app
        .dispatcher
        .run(async { stopped.await.unwrap_or_default() });
    let looked = async {
        while app.dispatcher.processes().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let process = stats("/stats", "viewer").await[0].clone();
        assert_eq!(process["role"], "worker");
        assert_eq!([&process["in_flight"], &process["slots"]], [0, 256]);
        for hidden in [
            "/stats?tenant=a",
            "/stats?endpoint_id=018bcfe5-6800-7000-8000-000000000000",
        ] {
            assert_eq!(stats(hidden, "viewer").await, Value::Null, "{hidden}");
        }
        assert_eq!(stats("/stats", "viewer a").await, Value::Null);
        stop.send(()).unwrap();
    };
    tokio::join!(running, looked);
    assert_eq!(stats("/stats", "viewer").await, json!([]), "it has ended");
}
