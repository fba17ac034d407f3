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
