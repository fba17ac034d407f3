//! Tenants as a whole.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use webhook_core::testing::fast_forward;

use crate::support::{Answer, App};

async fn call(app: &App, method: Method, path: &str, body: &Value, who: &str) -> Answer {
    let mut headers = vec![("authorization", who)];
    let body = match body {
        Value::Null => String::new(),
        body => {
            headers.push(("content-type", "application/json"));
            body.to_string()
        }
    };
    app.send(method, path, &headers, body).await
}

async fn fill(app: &App, tenant: &str) {
    let endpoint = json!({"url": "https://hooks.example.com/", "tenant": tenant});
    let event = json!({"event_type": "a", "data": 1, "tenant": tenant, "idempotency_key": "k"});
    for (path, body) in [("/endpoints", endpoint), ("/events", event)] {
        let answer = call(app, Method::POST, path, &body, "operator").await;
        assert!(answer.status.is_success(), "{answer:?}");
    }
    app.deliver().await;
}

async fn count(app: &App, path: &str, tenant: &str) -> usize {
    let path = format!("{path}?tenant={tenant}");
    let list = call(app, Method::GET, &path, &Value::Null, "viewer").await;
    list.expect(200)["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn an_erased_tenant_is_gone_and_begins_anew() {
    let app = App::guarded();
    for tenant in ["a", "b:ä"] {
        fill(&app, tenant).await;
    }
    let erase = "/tenants/b:%C3%A4";
    let accepted = call(&app, Method::DELETE, erase, &Value::Null, "operator").await;
    assert_eq!(accepted.expect(202), json!({"status": "accepted"}));
    assert_eq!(count(&app, "/endpoints", "b:%C3%A4").await, 0);
    let while_erased = Duration::from_secs(600);
    fast_forward(&app.dispatcher, &app.clock, while_erased)
        .await
        .unwrap();
    for list in ["/endpoints", "/events", "/deliveries"] {
        assert_eq!(count(&app, list, "b:%C3%A4").await, 0, "{list}");
        assert_eq!(count(&app, list, "a").await, 1, "{list}");
    }
    let log = call(&app, Method::GET, "/audit?limit=1", &Value::Null, "viewer").await;
    let entry = log.expect(200)["items"][0].clone();
    assert_eq!(entry["action"], "tenant.delete");
    assert_eq!([&entry["tenant"], &entry["target"]], ["b:ä", "b:ä"]);

    fill(&app, "b:ä").await;
    assert_eq!(count(&app, "/deliveries", "b:%C3%A4").await, 1);
}

#[tokio::test]
async fn a_tenant_is_erased_by_its_own_operator_or_the_hosts() {
    let app = App::guarded();
    fill(&app, "a").await;
    for (who, status) in [("operator b", 404), ("viewer a", 403), ("viewer", 403)] {
        let refused = call(&app, Method::DELETE, "/tenants/a", &Value::Null, who).await;
        assert_eq!(refused.error().0, status, "{who}");
    }
    assert_eq!(count(&app, "/endpoints", "a").await, 1);
    for (path, body) in [
        ("/tenants/a%20b", Value::Null),
        ("/tenants/a", json!({"x": 1})),
    ] {
        let refused = call(&app, Method::DELETE, path, &body, "operator").await;
        assert_eq!(refused.error().0, 400, "{path}");
    }
    call(
        &app,
        Method::DELETE,
        "/tenants/a",
        &Value::Null,
        "operator a",
    )
    .await
    .expect(202);
    assert_eq!(count(&app, "/endpoints", "a").await, 0);
}
