//! Each metric is documented, and whatever names metrics names those that there are.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use webhook_delivery::metrics::{METRICS, Metric, MetricKind};

fn read(file: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Everything in a text that looks like a series of ours.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words.filter(|word| word.starts_with("webhook_")).collect()
}

fn has_series(metric: &Metric, series: &str) -> bool {
    match metric.kind {
        MetricKind::Histogram(_) => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| series.strip_suffix(end) == Some(metric.name)),
        _ => series == metric.name,
    }
}

fn check(text: &str) {
    let named = named(text);
    assert!(named.len() > 5, "{named:?}");
    for series in named {
        let exists = METRICS.iter().any(|metric| has_series(metric, series));
        assert!(exists, "{series} does not exist");
    }
}

/// The queries of a dashboard.
fn queries(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/dashboards/webhook-delivery.json")).unwrap()
}

#[test]
fn the_dashboard_asks_for_what_exists() {
    check(&queries(&dashboard()).join("\n"));
}

#[test]
fn the_dashboard_leaves_out_nothing() {
    let queries = queries(&dashboard()).join("\n");
    let named = named(&queries);
    for metric in METRICS {
        let is_shown = named.iter().any(|series| has_series(metric, series));
        assert!(is_shown, "{} is on no panel", metric.name);
    }
}

#[test]
fn alerts_and_their_tests_name_what_exists() {
    check(&read("deploy/prometheus/alerts.yml"));
    check(&read("deploy/prometheus/alerts_test.yml"));
}

#[test]
fn each_alert_is_tested_and_says_where_to_read_on() {
    let (alerts, tests) = (
        read("deploy/prometheus/alerts.yml"),
        read("deploy/prometheus/alerts_test.yml"),
    );
    let names = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<_> = names.collect();
    assert!(names.len() > 5);
    for name in &names {
        assert!(tests.contains(&format!(r#"alertname="{name}""#)), "{name}");
    }
    let pages = alerts.matches("runbook: docs/runbook/alerts.md#").count();
    assert_eq!(pages, names.len());
}

#[test]
fn each_metric_is_documented_as_it_is() {
    let page = read("docs/metrics.md");
    for metric in METRICS {
        let head = format!(
            "| `{}` | {} | {} | ",
            metric.name,
            metric.kind.as_str(),
            metric.unit()
        );
        let row = page.lines().find(|line| line.starts_with(&head));
        let row = row.unwrap_or_else(|| panic!("no row begins with {head}"));
        assert!(row.ends_with(&format!("| {} |", metric.help)), "{row}");
        if let Some(label) = metric.label {
            assert!(row.contains(&format!("| `{}`: ", label.name)), "{row}");
            let are_listed = label.values.len() > 6 || row.contains(&label.values.join(", "));
            assert!(are_listed, "{row}");
        }
    }
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `webhook_"))
        .count();
    assert_eq!(rows, METRICS.len());
}

/// The store finds it out when the delivery is loaded, and ends it then.
#[cfg(all(feature = "axum", feature = "prometheus", feature = "sqlite"))]
#[tokio::test]
async fn a_delivery_that_cannot_be_read_is_counted_as_a_dead_letter_of_ours() {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Executor};
    use webhook_core::testing::ScriptedTransport;
    use webhook_delivery::{Dispatcher, Metrics, NewEndpoint, NewEvent, SqliteStore};

    let metrics = Metrics::install().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let store = SqliteStore::open(&file).await.unwrap();
    let builder = Dispatcher::builder(store).transport(ScriptedTransport::default());
    let dispatcher = builder.build().unwrap();
    let url = "https://hooks.example.com/in".parse().unwrap();
    let endpoints = dispatcher.endpoints();
    endpoints.create(NewEndpoint::new(url)).await.unwrap();
    for data in ["1", "2"] {
        let event = NewEvent::data("order.paid", data).unwrap();
        dispatcher.enqueue(event).await.unwrap();
    }
    let database = SqliteConnectOptions::new().filename(&file);
    let mut database = database.connect().await.unwrap();
    let spoil = "UPDATE webhook_events SET event_type = '{ ?' WHERE sequence = 1";
    database.execute(spoil).await.unwrap();
    while dispatcher.step().await.unwrap().claimed > 0 {}
    let found = metrics.render();
    for series in [
        r#"webhook_dead_letters_total{cause="system"} 1"#,
        r#"webhook_deliveries_ended_total{status="failed"} 1"#,
        r#"webhook_deliveries_ended_total{status="succeeded"} 1"#,
    ] {
        assert!(
            found.lines().any(|line| line == series),
            "{series}: {found}"
        );
    }
}
