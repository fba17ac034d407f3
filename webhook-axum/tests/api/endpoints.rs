//! `/endpoints`.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, App};

fn everything() -> Value {
    json!({
        "url": "https://hooks.example.com/in?shard=7",
        "tenant": "acme",
        "event_types": ["order.*", "invoice.paid"],
        "filter": {"data.amount": {"gte": 100}},
        "description": "orders",
        "headers": {"x-shard": "7", "x-name": "Zoë"},
        "secret_headers": {"authorization": "Bearer s3cret-token"},
        "rate_limit": {"limit": 50, "per_seconds": 1},
        "max_in_flight": 4,
        "ordered": true,
        "timeout_seconds": 2.5,
        "retry_schedule": [1, 60],
    })
}

#[tokio::test]
async fn what_was_asked_for_is_answered_and_shown() {
    let app = App::open();
    let created = app.post("/endpoints", everything()).await;
    assert_eq!(created.headers["cache-control"], "no-store");
    let mut created = created.expect(201);
    let secret = created.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    let mut expected = everything();
    expected["secret_headers"]["authorization"] = json!("***");
    expected["id"] = created["id"].clone();
    expected["state"] = json!("enabled");
    expected["state_reason"] = Value::Null;
    expected["health"] = json!({"failing_since": null, "notified_at": null});
    expected["breaker"] = json!({"state": "closed", "trips": 0, "opened_at": null, "until": null});
    expected["created_at"] = json!("2023-11-14T22:13:20.000000Z");
    expected["updated_at"] = expected["created_at"].clone();
    assert_eq!(created, expected);
    expected["url"] = json!("https://hooks.example.com/in?***");
    let path = format!("/endpoints/{}", created["id"].as_str().unwrap());
    let mut shown = app.get(&path).await.expect(200);
    assert!(shown["backlog"].take().is_object(), "where one is shown");
    shown.as_object_mut().unwrap().remove("backlog");
    assert_eq!(shown, expected);
    let list = app.get("/endpoints?tenant=acme").await.expect(200);
    assert_eq!(list, json!({"items": [expected], "next": null}));
}

#[tokio::test]
async fn times_are_answered_as_they_are_stored() {
    let app = App::open();
    let url = "https://hooks.example.com/in";
    let asked = json!({"url": url, "timeout_seconds": 1.0005, "retry_schedule": [0.0004, 2]});
    let created = app.post("/endpoints", asked).await.expect(201);
    let path = format!("/endpoints/{}", created["id"].as_str().unwrap());
    let shown = app.get(&path).await.expect(200);
    for answer in [created, shown] {
        assert_eq!(answer["timeout_seconds"], json!(1.001));
        assert_eq!(answer["retry_schedule"], json!([0, 2]));
    }
}

#[tokio::test]
async fn a_bare_endpoint_has_the_defaults() {
    let app = App::open();
    let id = app.endpoint(json!({"description": null})).await;
    let shown = app.get(&format!("/endpoints/{id}")).await.expect(200);
    assert_eq!(shown["tenant"], "default");
    assert_eq!(shown["event_types"], json!([]));
    assert_eq!(shown["description"], "");
    for field in [
        "filter",
        "rate_limit",
        "max_in_flight",
        "timeout_seconds",
        "retry_schedule",
    ] {
        assert_eq!(shown[field], Value::Null, "{field}");
    }
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_resets() {
    let app = App::open();
    let created = app.post("/endpoints", everything()).await.expect(201);
    let path = format!("/endpoints/{}", created["id"].as_str().unwrap());
    let mut before = app.get(&path).await.expect(200);
    before.as_object_mut().unwrap().remove("backlog");
    app.clock.advance(Duration::from_secs(1));

    // Nothing is named, and nothing changes.
    assert_eq!(app.patch(&path, json!({})).await.expect(200), before);
    let mut expected = before;
    expected["updated_at"] = json!("2023-11-14T22:13:21.000000Z");

    for (field, value) in [
        ("url", json!("https://hooks.example.com/other")),
        ("event_types", json!(["*"])),
        ("filter", json!({"data.a": {"eq": 1}})),
        ("description", json!("new")),
        ("headers", json!({"x-new": "1"})),
        ("secret_headers", json!({"x-api-key": "***"})),
        ("rate_limit", json!({"limit": 1, "per_seconds": 60})),
        ("max_in_flight", json!(5)),
        ("ordered", json!(false)),
        ("timeout_seconds", json!(30)),
        ("retry_schedule", json!([])),
    ] {
        expected[field] = value.clone();
        let sent = match field {
            "secret_headers" => json!({"x-api-key": "other-s3cret"}),
            _ => value,
        };
        let patched = app.patch(&path, json!({field: sent})).await.expect(200);
        assert_eq!(patched, expected, "{field}");
    }
    for (field, reset) in [
        ("event_types", json!([])),
        ("filter", Value::Null),
        ("description", json!("")),
        ("headers", json!({})),
        ("secret_headers", json!({})),
        ("rate_limit", Value::Null),
        ("max_in_flight", Value::Null),
        ("ordered", json!(false)),
        ("timeout_seconds", Value::Null),
        ("retry_schedule", Value::Null),
    ] {
        expected[field] = reset;
        let patched = app.patch(&path, json!({field: null})).await.expect(200);
        assert_eq!(patched, expected, "{field}");
    }
    let mut shown = app.get(&path).await.expect(200);
    shown.as_object_mut().unwrap().remove("backlog");
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn stars_leave_a_secret_header_as_it_is() {
    let app = App::open();
    let id = app
        .endpoint(json!({"secret_headers": {"authorization": "Bearer s3cret", "x-key": "old"}}))
        .await;
    let path = format!("/endpoints/{id}");
    let patch = json!({"secret_headers": {"Authorization": "***", "x-key": "new"}, "headers": {"x-a": "***"}});
    app.patch(&path, patch).await.expect(200);
    app.event(json!({"event_type": "a", "data": 1})).await;
    app.deliver().await;
    let sent = &app.transport.requests()[0].headers;
    assert_eq!(sent["authorization"], "Bearer s3cret");
    assert_eq!(sent["x-key"], "new");
    assert_eq!(sent["x-a"], "***");
    let unknown = json!({"secret_headers": {"x-unknown": "***"}});
    let answer = app.patch(&path, unknown).await;
    assert_eq!(answer.error(), (400, "invalid_request".into()));
}

#[tokio::test]
async fn a_secret_header_does_not_follow_the_url_to_another_server() {
    let app = App::open();
    let id = app
        .endpoint(json!({"secret_headers": {"authorization": "Bearer s3cret", "x-key": "old"}}))
        .await;
    let path = format!("/endpoints/{id}");
    let before = app.get(&path).await.expect(200);
    for url in [
        "http://hooks.example.com/in",
        "https://hooks.example.com:8443/in",
        "https://evil.example.com/in",
    ] {
        for patch in [
            json!({"url": url}),
            json!({"url": url, "secret_headers": {"authorization": "***"}}),
            json!({"url": url, "secret_headers": {"authorization": "***", "x-key": "new"}}),
        ] {
            let answer = app.patch(&path, patch).await;
            assert_eq!(answer.error(), (400, "invalid_request".into()), "{url}");
            assert!(answer.text.contains("anew"), "{}", answer.text);
        }
    }
    assert_eq!(app.get(&path).await.expect(200), before);
    for patch in [
        json!({"url": "https://hooks.example.com:443/else"}),
        json!({"url": "https://one.example.com/", "secret_headers": {"authorization": "Bearer other"}}),
        json!({"url": "https://one.example.com/", "secret_headers": {"authorization": "***"}}),
        json!({"url": "https://two.example.com/", "secret_headers": null}),
        json!({"url": "https://three.example.com/"}),
    ] {
        app.patch(&path, patch).await.expect(200);
    }
}

#[tokio::test]
async fn a_state_is_set_and_says_why() {
    let app = App::open();
    let id = app.endpoint(json!({})).await;
    let path = format!("/endpoints/{id}");
    for (state, reason) in [
        ("paused", json!("requested")),
        ("disabled", json!("requested")),
        ("enabled", Value::Null),
    ] {
        let patched = app.patch(&path, json!({"state": state})).await.expect(200);
        assert_eq!(
            (&patched["state"], &patched["state_reason"]),
            (&json!(state), &reason)
        );
    }
    app.transport.push(410);
    app.event(json!({"event_type": "a", "data": 1})).await;
    app.deliver().await;
    let gone = app.get(&path).await.expect(200);
    assert_eq!(
        (&gone["state"], &gone["state_reason"]),
        (&json!("disabled"), &json!("gone"))
    );
}

#[tokio::test]
async fn a_refused_patch_changes_nothing() {
    let app = App::open();
    let created = app.post("/endpoints", everything()).await.expect(201);
    let path = format!("/endpoints/{}", created["id"].as_str().unwrap());
    let before = app.get(&path).await.expect(200);
    app.clock.advance(Duration::from_secs(1));
    for (patch, expected) in [
        (
            json!({"description": "x", "max_in_flight": 0}),
            (400, "invalid_setting"),
        ),
        (
            json!({"description": "x", "headers": {"authorization": "x"}}),
            (400, "invalid_setting"),
        ),
        (
            json!({"description": "x", "headers": {"Authorization": "x"}, "secret_headers": null}),
            (400, "invalid_setting"),
        ),
        (
            json!({"description": "x", "url": "https://10.0.0.1/", "secret_headers": {"x-a": "1"}}),
            (422, "url_not_allowed"),
        ),
        (
            json!({"description": "x", "url": null}),
            (400, "invalid_request"),
        ),
        (
            json!({"description": "x", "state": null}),
            (400, "invalid_request"),
        ),
        (
            json!({"description": "x", "state": {"paused": null}}),
            (400, "invalid_request"),
        ),
        (
            json!({"description": "x", "state": "broken"}),
            (400, "invalid_request"),
        ),
        (
            json!({"description": "x", "tenant": "other"}),
            (400, "invalid_request"),
        ),
        (
            json!({"description": "x", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}),
            (400, "invalid_request"),
        ),
        (
            json!({"description": "x", "id": "x"}),
            (400, "invalid_request"),
        ),
    ] {
        let answer = app.patch(&path, patch.clone()).await;
        assert_eq!(answer.error(), (expected.0, expected.1.into()), "{patch}");
        assert_eq!(app.get(&path).await.expect(200), before, "{patch}");
    }
}

#[tokio::test]
async fn a_deleted_endpoint_is_gone_and_its_deliveries_are_cancelled() {
    let app = App::open();
    let id = app.endpoint(json!({})).await;
    let event = app.event(json!({"event_type": "a", "data": 1})).await;
    let path = format!("/endpoints/{id}");
    let deleted = app.call(Method::DELETE, &path, None).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    assert_eq!(app.get(&path).await.error(), (404, "not_found".into()));
    let again = app.call(Method::DELETE, &path, None).await;
    assert_eq!(again.error(), (404, "not_found".into()));
    let shown = app.get(&format!("/events/{event}")).await.expect(200);
    assert_eq!(shown["deliveries"][0]["status"], "cancelled");
    let delivery = shown["deliveries"][0]["id"].as_str().unwrap();
    let delivery = app
        .get(&format!("/deliveries/{delivery}"))
        .await
        .expect(200);
    assert_eq!(
        delivery["explanation"],
        "cancelled: the endpoint was deleted"
    );
}

#[tokio::test]
async fn a_given_secret_is_taken_and_both_sign_after_a_rotation() {
    let app = App::open();
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = json!({"url": "https://hooks.example.com/", "secret": given});
    let created = app.post("/endpoints", body).await.expect(201);
    assert_eq!(created["secret"], given);
    let path = format!(
        "/endpoints/{}/rotate-secret",
        created["id"].as_str().unwrap()
    );
    let signatures = async || {
        app.event(json!({"event_type": "a", "data": 1})).await;
        app.deliver().await;
        let sent = app.transport.requests().pop().unwrap();
        let signatures = sent.headers["webhook-signature"].to_str().unwrap();
        signatures.split(' ').count()
    };
    let rotated = app.call(Method::POST, &path, None).await;
    assert_eq!(rotated.headers["cache-control"], "no-store");
    let rotated = rotated.expect(200);
    assert_ne!(rotated["secret"], given);
    assert_eq!(signatures().await, 2);
    app.clock.advance(Duration::from_secs(86_400));
    assert_eq!(signatures().await, 1);
    app.post(&path, json!({"overlap_seconds": 0}))
        .await
        .expect(200);
    assert_eq!(signatures().await, 1);
    for bad in [
        json!({"overlap_seconds": -1}),
        json!({"overlap_seconds": "1"}),
        json!({"overlap": 1}),
        json!([]),
    ] {
        assert_eq!(
            app.post(&path, bad).await.error(),
            (400, "invalid_request".into())
        );
    }
    let long = app.post(&path, json!({"overlap_seconds": 2_592_001})).await;
    assert_eq!(long.error(), (400, "invalid_setting".into()));
}

#[tokio::test]
async fn secrets_are_shown_once_and_never_again() {
    let app = App::open();
    let created = app.post("/endpoints", everything()).await.expect(201);
    let id = created["id"].as_str().unwrap();
    app.transport.push(503);
    app.event(json!({"event_type": "order.a", "data": {"amount": 100}, "tenant": "acme"}))
        .await;
    app.deliver().await;
    let deliveries = app.get("/deliveries").await.expect(200);
    let delivery = deliveries["items"][0]["id"].as_str().unwrap();
    let event = deliveries["items"][0]["event_id"].as_str().unwrap();
    let rotated = app
        .post(&format!("/endpoints/{id}/rotate-secret"), json!({}))
        .await
        .expect(200);
    let secrets = [
        created["secret"].as_str().unwrap(),
        rotated["secret"].as_str().unwrap(),
        "whsec_",
        "s3cret",
    ];
    let mut answers = Vec::new();
    for path in [
        "/endpoints".to_owned(),
        format!("/endpoints/{id}"),
        "/events".to_owned(),
        format!("/events/{event}"),
        "/deliveries".to_owned(),
        format!("/deliveries/{delivery}"),
    ] {
        answers.push(app.get(&path).await);
    }
    answers.push(
        app.patch(&format!("/endpoints/{id}"), json!({"description": "x"}))
            .await,
    );
    for answer in &answers {
        assert!(answer.status.is_success(), "{answer:?}");
        for secret in secrets {
            assert!(
                !format!("{answer:?}").contains(secret),
                "{secret} in {answer:?}"
            );
        }
    }
    assert!(
        answers[5].text.contains(r#""authorization":"***""#),
        "{}",
        answers[5].text
    );
}

#[tokio::test]
async fn errors_do_not_repeat_secrets() {
    let app = App::open();
    let url = "https://user:s3cret@hooks.example.com/";
    for body in [
        json!({"url": url}),
        json!({"url": "https://hooks.example.com/", "secret": "s3cret"}),
        json!({"url": "https://hooks.example.com/", "secret": ["s3cret"]}),
        json!({"url": "https://hooks.example.com/", "secret": {"s3cret": 1}}),
        json!({"url": "https://hooks.example.com/", "secret_headers": "s3cret"}),
        json!({"url": "https://hooks.example.com/", "secret_headers": ["s3cret"]}),
        json!({"url": "https://hooks.example.com/", "secret_headers": {"x-a": "s3cret\n"}}),
        json!({"url": "https://hooks.example.com/", "headers": {"authorization": "s3cret"}}),
        json!("s3cret"),
    ] {
        let answer = app.post("/endpoints", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
    }
    let answer = app
        .post("/endpoints", json!({"url": "https://127.0.0.1/?k=s3cret"}))
        .await;
    assert_eq!(answer.error(), (422, "url_not_allowed".into()));
    assert!(!answer.text.contains("s3cret"), "{}", answer.text);
    assert_eq!(app.stored().await.1, 0);
}

#[tokio::test]
async fn a_query_is_hidden_and_stays_when_it_is_sent_back_hidden() {
    let app = App::open();
    let hidden = "https://hooks.example.com/in?***";
    let url = json!({"url": "https://hooks.example.com/in?token=s3cret"});
    let id = app.endpoint(url).await;
    let path = format!("/endpoints/{id}");
    let body = json!({"url": hidden, "description": "new"});
    let shown = app.patch(&path, body).await.expect(200);
    assert_eq!(
        (&shown["url"], &shown["description"]),
        (&json!(hidden), &json!("new"))
    );
    let stored = app
        .dispatcher
        .endpoints()
        .get(id.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        stored.url.as_str(),
        "https://hooks.example.com/in?token=s3cret"
    );

    for url in [
        "https://other.example.com/in?***",
        "https://hooks.example.com/?***",
    ] {
        let answer = app
            .patch(&path, json!({"url": url, "description": "x"}))
            .await;
        assert_eq!(answer.error(), (400, "invalid_request".into()));
    }
    let answer = app.post("/endpoints", json!({"url": hidden})).await;
    assert_eq!(answer.error(), (400, "invalid_request".into()));
    assert_eq!(app.get(&path).await.expect(200)["description"], "new");
}

#[tokio::test]
async fn an_endpoint_that_fails_shows_since_when_and_its_breaker() {
    let app = App::open();
    let id = app.endpoint(json!({})).await;
    let well = app.endpoint(json!({"tenant": "other"})).await;
    for _ in 0..10 {
        app.transport.push(503);
        app.post("/events", json!({"event_type": "order.paid", "data": 1}))
            .await
            .expect(202);
    }
    while app.dispatcher.step().await.unwrap().claimed > 0 {}
    let path = format!("/endpoints/{id}");
    let shown = app.get(&path).await.expect(200);
    assert_eq!(shown["state"], "enabled");
    assert_eq!(
        shown["health"],
        json!({"failing_since": "2023-11-14T22:13:20.000000Z", "notified_at": null})
    );
    let breaker = &shown["breaker"];
    assert_eq!(
        (&breaker["state"], &breaker["trips"]),
        (&json!("open"), &json!(1))
    );
    assert_eq!(breaker["opened_at"], "2023-11-14T22:13:20.000000Z");
    let until = breaker["until"].as_str().unwrap();
    assert!(("2023-11-14T22:13:50".."2023-11-14T22:13:57").contains(&until));

    let list = app.get("/endpoints").await.expect(200);
    let breaker_of = |id: &str| {
        let items = list["items"].as_array().unwrap().iter();
        let mut own = items.filter(|it| it["id"] == id);
        own.next().unwrap()["breaker"]["state"].clone()
    };
    assert_eq!(breaker_of(&id), "open");
    assert_eq!(breaker_of(&well), "closed");

    app.clock.advance(Duration::from_secs(60));
    let shown = app.get(&path).await.expect(200);
    assert_eq!(shown["breaker"]["state"], "half_open");
    let enabled = app.patch(&path, json!({"state": "enabled"})).await;
    let enabled = enabled.expect(200);
    assert_eq!(enabled["breaker"]["state"], "closed");
    assert_eq!(enabled["health"]["failing_since"], Value::Null);
    assert_eq!(app.dispatcher.step().await.unwrap().claimed, 10);
}

#[tokio::test]
async fn a_test_answers_with_the_attempt() {
    let app = App::open();
    let endpoint = app.endpoint(json!({"event_types": ["order.*"]})).await;
    let path = format!("/endpoints/{endpoint}/test");
    app.transport.push(418);
    let work = async {
        while app.dispatcher.step().await.unwrap().claimed == 0 {
            tokio::task::yield_now().await;
        }
        app.clock.advance(Duration::from_millis(20));
    };
    let body = json!({"event_type": "order.paid", "data": {"n": 7}});
    let (answer, ()) = tokio::join!(app.post(&path, body), work);
    let tested = answer.expect(200);
    assert_eq!(tested["status"], "failed");
    assert_eq!(tested["end_reason"], "exhausted");
    assert_eq!(tested["attempt"]["status"], 418);
    assert_eq!(tested["attempt"]["number"], 1);
    let shown = format!("/deliveries/{}", tested["delivery_id"].as_str().unwrap());
    let shown = app.get(&shown).await.expect(200);
    assert_eq!(shown["event_id"], tested["event_id"]);
    assert_eq!(shown["event_type"], "order.paid");
    assert_eq!(shown["attempts"], json!([tested["attempt"]]));

    let time = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        app.clock.advance(Duration::from_secs(60));
    };
    let (answer, ()) = tokio::join!(app.call(Method::POST, &path, None), time);
    let late = answer.expect(202);
    assert_eq!(late["status"], "accepted");
    assert_eq!(late["attempt"], json!(null));

    for bad in [
        json!({"type": "a"}),
        json!({"event_type": null}),
        json!({"event_type": "a b"}),
    ] {
        let answer = app.post(&path, bad.clone()).await;
        assert_eq!(answer.error(), (400, "invalid_request".into()), "{bad}");
    }
    let pause = json!({"state": "paused"});
    app.patch(&format!("/endpoints/{endpoint}"), pause)
        .await
        .expect(200);
    let answer = app.post(&path, json!({})).await;
    assert_eq!(answer.error(), (409, "conflict".into()));
}

/// What is answered without waiting for time to pass, if anything is.
async fn at_once(answer: impl Future<Output = Answer>) -> Option<Answer> {
    let turns = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = turns => None,
    }
}

#[tokio::test]
async fn tests_are_limited_also_those_whose_client_is_gone() {
    let app = App::open();
    let mut paths = Vec::new();
    for _ in 0..33 {
        let endpoint = app.endpoint(json!({})).await;
        paths.push(format!("/endpoints/{endpoint}/test"));
    }
    let rest = paths.split_off(1);
    for path in paths.iter().chain(&rest[..31]) {
        let abandoned = at_once(app.call(Method::POST, path, None)).await;
        assert!(abandoned.is_none(), "{abandoned:?}");
    }
    let again = at_once(app.call(Method::POST, &paths[0], None)).await;
    let again = again.expect("a refusal");
    assert_eq!(again.error(), (409, "conflict".into()));
    assert!(again.text.contains("is under way"), "{}", again.text);
    let one_more = at_once(app.call(Method::POST, &rest[31], None)).await;
    let one_more = one_more.expect("a refusal");
    assert_eq!(one_more.error(), (503, "overloaded".into()));
    assert_eq!(one_more.headers["retry-after"], "1");
    app.clock.advance(Duration::from_secs(60));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    for path in [&paths[0], &rest[31]] {
        let (answer, ()) = tokio::join!(app.call(Method::POST, path, None), async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            app.clock.advance(Duration::from_secs(60));
        });
        answer.expect(202);
    }
}

#[tokio::test]
async fn what_waits_for_an_endpoint_is_shown_with_it() {
    let app = App::open();
    let path = format!("/endpoints/{}", app.endpoint(json!({})).await);
    let idle = json!({"due": 0, "parked": 0, "oldest_due": null});
    assert_eq!(app.get(&path).await.expect(200)["backlog"], idle);
    let later = "2023-11-14T23:00:00.000000Z";
    app.event(json!({"event_type": "a", "data": 1})).await;
    app.event(json!({"event_type": "a", "data": 2, "deliver_at": later}))
        .await;
    let waiting = json!({"due": 1, "parked": 1, "oldest_due": "2023-11-14T22:13:20.000000Z"});
    assert_eq!(app.get(&path).await.expect(200)["backlog"], waiting);
    app.deliver().await;
    let waiting = json!({"due": 0, "parked": 1, "oldest_due": later});
    assert_eq!(app.get(&path).await.expect(200)["backlog"], waiting);
}
