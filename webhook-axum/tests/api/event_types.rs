//! The catalogue of event types, and events that must fit it.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, App};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn put(app: &App, name: &str, body: impl ToString) -> Answer {
    let path = format!("/event-types/{name}");
    app.send(Method::PUT, &path, &[JSON], body.to_string())
        .await
}

fn number() -> Value {
    json!({"type": "object", "properties": {"items": {"items": {"type": "integer"}}}})
}

#[tokio::test]
async fn an_entry_is_shown_as_it_was_put_and_replaced_as_a_whole() {
    let app = App::open();
    let text = r#"{"description":"Paid.","schema":{ "type":"object", "$comment":"1" },"example":{"b":1,"a":1.0}}"#;
    let answer = put(&app, "order.paid", text).await;
    assert!(
        answer
            .text
            .contains(r#"{ "type":"object", "$comment":"1" }"#),
        "{}",
        answer.text
    );
    assert!(
        answer.text.contains(r#"{"b":1,"a":1.0}"#),
        "{}",
        answer.text
    );
    let first = answer.expect(200);
    let fields: Vec<_> = first.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "created_at",
            "description",
            "example",
            "name",
            "schema",
            "updated_at"
        ]
    );
    assert_eq!(first["name"], "order.paid");
    assert_eq!(first["description"], "Paid.");
    assert_eq!(
        app.get("/event-types").await.expect(200)["items"],
        json!([first])
    );

    app.clock.advance(std::time::Duration::from_secs(1));
    let second = put(&app, "order.paid", "{}").await.expect(200);
    let expected = json!({
        "name": "order.paid", "description": "", "schema": null, "example": null,
        "created_at": first["created_at"], "updated_at": "2023-11-14T22:13:21.000000Z",
    });
    assert_eq!(second, expected);
    let nulls = json!({"schema": null, "example": null});
    put(&app, "order.paid", nulls).await.expect(200);
    put(&app, "order.lost", "{}").await.expect(200);
    let page = app.get("/event-types?limit=1").await.expect(200);
    assert_eq!(page["items"][0]["name"], "order.lost");
    let next = format!("/event-types?cursor={}", page["next"].as_str().unwrap());
    let rest = app.get(&next).await.expect(200);
    assert_eq!(rest["items"], json!([expected]));
    assert_eq!(rest["next"], json!(null));
}

#[tokio::test]
async fn what_is_no_entry_is_refused() {
    let app = App::open();
    let long = "x".repeat(64 * 1024);
    for (name, body, code) in [
        ("a%20b", "{}".to_owned(), "invalid_event"),
        ("a", r#"{"shema":{}}"#.into(), "invalid_request"),
        ("a", r#"{"name":"a"}"#.into(), "invalid_request"),
        ("a", r#"{"description":null}"#.into(), "invalid_request"),
        (
            "a",
            r#"{"schema":{"type":"object","type":"array"}}"#.into(),
            "invalid_request",
        ),
        ("a", "[]".into(), "invalid_request"),
        ("a", r#"{"schema":true}"#.into(), "invalid_event_type"),
        (
            "a",
            r#"{"schema":{"type":"intger"}}"#.into(),
            "invalid_event_type",
        ),
        (
            "a",
            r#"{"schema":{"$ref":"https://example.com/s.json"}}"#.into(),
            "invalid_event_type",
        ),
        (
            "a",
            r#"{"schema":{"pattern":"(?=a)"}}"#.into(),
            "invalid_event_type",
        ),
        (
            "a",
            json!({"schema": {"$comment": long}}).to_string(),
            "invalid_event_type",
        ),
        (
            "a",
            json!({"example": long}).to_string(),
            "invalid_event_type",
        ),
        (
            "a",
            r#"{"schema":{"type":"string"},"example":1}"#.into(),
            "invalid_event_type",
        ),
    ] {
        let answer = put(&app, name, &body).await;
        assert_eq!(answer.error(), (400, code.into()), "{:.200}", body);
    }
    let huge = json!({"description": "x".repeat(200 * 1024)});
    assert_eq!(
        put(&app, "a", huge).await.error(),
        (413, "body_too_large".into())
    );
    assert_eq!(
        app.get("/event-types").await.expect(200)["items"],
        json!([])
    );
}

#[tokio::test]
async fn an_event_that_does_not_fit_is_a_400_that_names_the_place() {
    let app = App::open();
    put(&app, "a", json!({"schema": number()}))
        .await
        .expect(200);
    let bad = json!({"event_type": "a", "data": {"items": [1, "s3cret"]}});
    let good = json!({"event_type": "a", "data": {"items": [1, 2]}});
    let sentence = |answer: &Answer| {
        assert_eq!(answer.error(), (400, "schema_violation".into()));
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        answer.json()["error"].as_str().unwrap().to_owned()
    };
    let said =
        "the data does not fit the schema of a at /items/1: value is not of type \"integer\"";
    assert_eq!(sentence(&app.post("/events", bad.clone()).await), said);
    let batch = app.post("/events/batch", json!([good, bad])).await;
    assert_eq!(sentence(&batch), format!("event 1: {said}"));
    assert_eq!(app.stored().await.0, 0);
    app.event(good).await;
}

#[tokio::test]
async fn tenants_read_the_catalogue_and_do_not_change_it() {
    let app = App::guarded();
    let put = async |who| {
        let headers = [JSON, ("authorization", who)];
        let (method, path) = (Method::PUT, "/event-types/a");
        app.send(method, path, &headers, r#"{"description":"x"}"#)
            .await
    };
    for refused in ["operator a", "viewer", "viewer a"] {
        assert_eq!(
            put(refused).await.error(),
            (403, "forbidden".into()),
            "{refused}"
        );
    }
    put("operator").await.expect(200);
    for reader in ["operator", "viewer", "operator a", "viewer a"] {
        let headers = [("authorization", reader)];
        let list = app.send(Method::GET, "/event-types", &headers, "").await;
        assert_eq!(list.expect(200)["items"][0]["description"], "x", "{reader}");
    }
}
