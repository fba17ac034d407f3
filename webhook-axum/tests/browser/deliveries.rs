//! Deliveries and events: found, read try by try, replayed and cancelled.

use webhook_core::{CustomHeaders, DeliveryStatus, EndpointState};

use crate::app::App;
use crate::page::browse;

#[tokio::test]
async fn a_search_is_a_url_that_others_can_open() {
    let app = App::open().await;
    app.endpoint("/in").await;
    app.receiver.answers("/in", 400, "no");
    app.send("order.paid").await;
    app.settled().await;
    app.receiver.answers("/in", 200, "yes");
    app.send("order.sent").await;
    app.settled().await;
    browse(async |page| {
        page.goto(&app.screen("deliveries")).await;
        page.see("order.paid").await;
        page.see("order.sent").await;
        page.choose("status", "failed").await;
        page.fill("event_type", "order.paid").await;
        page.fill("error_kind", "http_400").await;
        page.press("Search").await;
        page.see("http_400").await;
        assert_eq!(page.value("event_type").await, "order.paid");
        assert!(!page.text().await.contains("order.sent"));
        let url = page.url().await;
        page.goto(&app.screen("")).await;
        page.goto(&url).await;
        assert_eq!(page.value("status").await, "failed");
        assert_eq!(page.value("error_kind").await, "http_400");
        assert_eq!(page.count("//td[normalize-space()='order.paid']").await, 1);
        assert!(!page.text().await.contains("order.sent"));
        page.fill("endpoint_id", "nonsense").await;
        page.press("Search").await;
        page.see("400").await;
    })
    .await;
}

#[tokio::test]
async fn a_delivery_shows_each_attempt_and_is_replayed() {
    let app = App::open().await;
    let endpoint = app
        .endpoint_with("/in", |new| {
            let headers = CustomHeaders::new([("x-shop", "seven")], []).unwrap();
            new.headers(headers)
        })
        .await;
    app.receiver.answers("/in", 400, "{\"why\":\"closed\"}");
    app.send("order.paid").await;
    app.settled().await;
    let first = app.delivery().await;
    browse(async |page| {
        page.goto(&app.screen(&format!("deliveries/{}", first.id)))
            .await;
        page.see("failed").await;
        page.see("HTTP 400").await;
        page.unfold("Request and response").await;
        page.see("webhook-signature").await;
        page.see("x-shop").await;
        page.see("seven").await;
        page.see("content-length").await;
        page.see("\"why\": \"closed\"").await;
        page.see("\"order\": 7").await;
        page.unfold("As curl").await;
        let curl = page.find("//pre[starts-with(., 'curl ')]").await;
        let curl = curl.text().await.unwrap();
        assert!(curl.contains(&app.receiver.url("/in")), "{curl}");
        assert!(curl.contains("--header 'x-shop: seven'"), "{curl}");
        assert!(curl.contains("\"order\":7"), "{curl}");
        page.unfold("Verify the signature").await;
        page.see(&format!("{}.", first.event_id)).await;

        app.receiver.answers("/in", 200, "welcome");
        page.press("Replay").await;
        page.see("HTTP 200").await;
        let replayed = page.url().await;
        assert!(replayed != app.screen(&format!("deliveries/{}", first.id)));
        page.follow(&app.receiver.url("/in")).await;
        page.see("Recent deliveries").await;
        assert!(page.url().await.ends_with(&endpoint.id.to_string()));
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_cancelled() {
    let app = App::open().await;
    let endpoint = app.endpoint("/in").await;
    let endpoints = app.dispatcher.endpoints();
    let paused = endpoints.update(endpoint.id, |it| it.state = EndpointState::Paused);
    paused.await.unwrap();
    app.send("order.paid").await;
    let waiting = app.delivery().await;
    browse(async |page| {
        page.goto(&app.screen("deliveries?status=pending")).await;
        page.follow_titled(&waiting.id.to_string()).await;
        page.see("pending").await;
        page.press("Cancel").await;
        page.see("cancelled").await;
        page.find("//button[normalize-space()='Replay']").await;
    })
    .await;
    assert_eq!(app.delivery().await.status, DeliveryStatus::Cancelled);
}

#[tokio::test]
async fn an_event_says_why_it_went_where_it_did() {
    let app = App::open().await;
    app.endpoint_with("/orders", |new| {
        new.event_types(["order.*".parse().unwrap()])
    })
    .await;
    app.endpoint_with("/users", |new| new.event_types(["user.*".parse().unwrap()]))
        .await;
    let event = app.send("order.paid").await;
    app.settled().await;
    browse(async |page| {
        page.goto(&app.screen("events")).await;
        page.fill("q", "\"order\":7").await;
        page.press("Search").await;
        page.follow(&event.to_string()).await;
        page.see("Where it went, and why").await;
        assert_eq!(page.count("//td[normalize-space()='yes']").await, 1);
        assert_eq!(page.count("//td[normalize-space()='no']").await, 1);
        page.see("\"order\": 7").await;
        page.press("Replay to all that match now").await;
        page.see("order.paid").await;
    })
    .await;
}

#[tokio::test]
async fn times_are_typed_in_the_readers_zone_and_are_utc_in_the_address() {
    let app = App::open().await;
    let endpoint = app.endpoint("/in").await;
    browse(async |page| {
        let zone = serde_json::json!({"timezoneId": "Asia/Tokyo"});
        page.devtools("Emulation.setTimezoneOverride", zone).await;
        page.goto(&app.screen("deliveries?since=2024-05-31T20:00"))
            .await;
        page.see("Since (Asia/Tokyo)").await;
        assert_eq!(page.value("since").await, "2024-06-01T05:00");
        let typed = "document.querySelector('[name=until]').value = '2024-06-01T12:00'";
        page.ask(typed).await;
        page.press("Search").await;
        page.find("//td[normalize-space()='None.']").await;
        let url = page.url().await;
        assert!(url.contains("since=2024-05-31T20%3A00%3A00"), "{url}");
        assert!(url.contains("until=2024-06-01T03%3A00%3A00"), "{url}");
        assert_eq!(page.value("until").await, "2024-06-01T12:00");

        page.goto(&app.screen(&format!("endpoints/{}", endpoint.id)))
            .await;
        page.see("Replay since (Asia/Tokyo)").await;
        let typed = "document.querySelector('[name=since]').value = '2024-06-01T12:00'";
        page.ask(typed).await;
        page.press("See what would be sent").await;
        page.see("deliveries would be made").await;
        let url = page.url().await;
        assert!(url.contains("since=2024-06-01T03%3A00%3A00"), "{url}");
    })
    .await;
}
