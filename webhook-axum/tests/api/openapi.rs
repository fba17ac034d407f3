//! The OpenAPI document, and what it must say.

use std::collections::BTreeSet;

use serde_json::Value;
use webhook_core::{EndpointUrl, MAX_BATCH, PayloadFilter};

use crate::support::App;
use crate::walls::{routes_in, routes_in_the_sources};

fn document() -> Value {
    serde_json::to_value(webhook_axum::openapi()).unwrap()
}

/// Path, method and what the document says of them.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    operations.collect()
}

/// All references in it.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_router_serves_the_document() {
    let served = App::open().get("/openapi.json").await;
    assert_eq!(served.headers["content-type"], "application/json");
    let served = served.expect(200);
    assert_eq!(served, document());
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let document = document();
    let mut said = BTreeSet::new();
    for (path, method, _) in operations(&document) {
        let path = path.replace("{id}", "{}").replace("{name}", "a");
        said.insert((method.to_uppercase(), path));
    }
    let mut served = routes_in_the_sources();
    served.extend(["/health", "/ready"].map(|path| ("GET".to_owned(), path.to_owned())));
    if cfg!(feature = "prometheus") {
        let metrics = routes_in(include_str!("../../src/metrics.rs"));
        assert!(!metrics.is_empty());
        served.extend(metrics);
    }
    assert_eq!(said, served);
}

#[test]
fn all_but_the_probes_need_a_credential() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let is_open = matches!(path, "/health" | "/ready");
        assert_eq!(operation["security"].is_null(), is_open, "{method} {path}");
        let refusal = &operation["responses"]["401"];
        assert_eq!(refusal.is_null(), is_open, "{method} {path}");
    }
}

#[cfg(feature = "prometheus")]
#[test]
fn metrics_are_said_to_be_text() {
    let document = document();
    let answers = &document["paths"]["/metrics"]["get"]["responses"];
    assert_eq!(
        answers["200"]["content"]["text/plain"]["schema"]["type"],
        "string"
    );
    for refusal in ["401", "403", "404"] {
        assert!(answers[refusal].is_object(), "{refusal}");
    }
}

#[test]
fn an_operation_has_a_name_of_its_own_and_says_what_it_does() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{method} {path}: {name}");
        assert!(operation["summary"].is_string(), "{method} {path}");
    }
}

#[test]
fn what_refuses_unknown_fields_says_so() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (path, method, operation) in operations(&document) {
        if operation["requestBody"].is_null() {
            continue;
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let name = body["$ref"].as_str().expect(path);
        let schema = &schemas[name.rsplit('/').next().unwrap()];
        let schema = match schema["items"]["$ref"].as_str() {
            Some(item) => &schemas[item.rsplit('/').next().unwrap()],
            None => schema,
        };
        assert_eq!(schema["additionalProperties"], false, "{method} {path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference}");
    }
}

/// Where a limit is in the OpenAPI document, what stands there, and the words of `docs/api.md`.
const LIMITS: [(&str, &str, &str); 20] = [
    ("/info/description", "at most 128 KiB", "128 KiB;"),
    (
        "/paths/~1events/post/description",
        "256 KiB",
        "256 KiB unless set",
    ),
    (
        "/paths/~1events~1batch/post/description",
        "1,000 events and 16 MiB",
        "1,000 events and 16 MiB",
    ),
    (
        "/paths/~1endpoints~1{id}~1test/post/description",
        "32 of all",
        "1 of an endpoint, 32",
    ),
    (
        "/components/schemas/EventRequest/properties/idempotency_key/maxLength",
        "255",
        "255 characters",
    ),
    (
        "/components/schemas/EndpointUrl/maxLength",
        "2048",
        "2,048 bytes",
    ),
    (
        "/components/schemas/PayloadFilter/maxProperties",
        "32",
        "32 fields",
    ),
    (
        "/components/schemas/PayloadFilter/description",
        "256 values",
        "256 values",
    ),
    (
        "/components/schemas/PayloadFilter/description",
        "8 KiB in all",
        "`in`, 8 KiB",
    ),
    (
        "/components/schemas/NewEndpointBody/properties/headers/description",
        "at most 32, and 8 KiB",
        "32 together, 8 KiB",
    ),
    (
        "/components/schemas/NewEndpointBody/properties/event_types/maxItems",
        "256",
        "| 256 |",
    ),
    (
        "/components/schemas/NewEndpointBody/properties/description/maxLength",
        "1024",
        "1,024 characters",
    ),
    (
        "/components/schemas/NewEndpointBody/properties/retry_schedule/maxItems",
        "20",
        "20 delays",
    ),
    (
        "/components/schemas/NewEndpointBody/properties/max_in_flight/maximum",
        "1000",
        "60, 1,000",
    ),
    (
        "/components/schemas/Rotation/properties/overlap_seconds/maximum",
        "2592000",
        "30 days",
    ),
    (
        "/components/schemas/Rotation/properties/overlap_seconds/description",
        "At most 5 secrets",
        "5 secrets",
    ),
    (
        "/components/schemas/EventTypeRequest/properties/schema/description",
        "64 KiB",
        "64 KiB, 64 KiB",
    ),
    (
        "/components/schemas/EventTypeRequest/properties/example/description",
        "64 KiB",
        "64 KiB, 64 KiB",
    ),
    ("/components/schemas/Limit/maximum", "200", "| 200 |"),
    (
        "/components/schemas/Rate/properties/limit/maximum",
        "1000000",
        "1,000,000 in up to",
    ),
];

#[test]
fn the_documents_say_every_limit() {
    let filter = (
        PayloadFilter::MAX_CONDITIONS,
        PayloadFilter::MAX_IN,
        PayloadFilter::MAX_LEN,
    );
    let enforced = (filter, EndpointUrl::MAX_LEN, MAX_BATCH);
    assert_eq!(enforced, ((32, 256, 8 * 1_024), 2_048, 1_000));
    let document = document();
    let guide = include_str!("../../../docs/api.md");
    let (_, table) = guide.split_once("**Limits**").unwrap();
    let (table, _) = table.split_once("\n\nA browser").unwrap();
    for (at, is, told) in LIMITS {
        let found = document.pointer(at).unwrap_or_else(|| panic!("{at}"));
        let found = found.as_str().map_or_else(|| found.to_string(), Into::into);
        assert!(found.replace('\n', " ").contains(is), "{at}: {is}: {found}");
        assert!(table.contains(told), "docs/api.md: {told}");
    }
}
