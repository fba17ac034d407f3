//! The same without a script: links and forms are enough.

use crate::app::App;
use crate::page::{Script, browse_with};

#[tokio::test]
async fn endpoints_deliveries_and_replays_are_managed_without_a_script() {
    let app = App::open().await;
    let url = app.receiver.url("/in");
    app.receiver.answers("/in", 400, "closed");
    browse_with(Script::Off, async |page| {
        page.goto(&app.screen("endpoints/new")).await;
        assert_eq!(page.count("//script").await, 1, "it is there, and not run");
        page.fill("url", "ftp://example.com").await;
        page.fill("description", "Shipping").await;
        page.press("Create").await;
        let notice = page.find("//*[@role='alert']").await;
        assert_eq!(
            notice.text().await.unwrap(),
            "The URL must start with https:// (or http://)"
        );
        assert_eq!(page.value("description").await, "Shipping");
        page.fill("url", &url).await;
        page.press("Create").await;
        page.see("whsec_").await;
        assert_eq!(page.count("//button[normalize-space()='Copy']").await, 0);
        page.follow("To the endpoint").await;
        page.press("Send a test").await;
        page.see("HTTP 400").await;

        page.goto(&app.screen("event-types")).await;
        page.fill("name", "order.paid").await;
        page.press("Save").await;
        page.unfold("order.paid").await;
        page.press("Send an event").await;
        page.see("Where it went, and why").await;
        app.settled().await;

        page.goto(&app.screen("deliveries")).await;
        page.choose("status", "failed").await;
        page.fill("event_type", "order.paid").await;
        page.press("Search").await;
        page.see("http_400").await;
        page.see(" UTC").await;
        page.follow_titled(&app.delivery().await.id.to_string())
            .await;
        page.unfold("Request and response").await;
        page.see("closed").await;

        app.receiver.answers("/in", 200, "open");
        page.goto(&app.screen("dead-letters")).await;
        page.follow("Replay…").await;
        page.press("Start").await;
        page.see(" made").await;
        app.settled().await;
        page.goto(&app.screen("deliveries?status=succeeded")).await;
        page.see("order.paid").await;

        page.goto(&app.screen("endpoints")).await;
        page.follow(&url).await;
        page.press("Pause").await;
        page.see("paused").await;
    })
    .await;
}
