//! Endpoints: made, changed, paused, tested, rotated and deleted by their forms.

use crate::app::App;
use crate::page::browse;

#[tokio::test]
async fn what_was_typed_is_kept_when_it_is_refused_and_the_secret_can_be_copied() {
    let app = App::open().await;
    let good = app.receiver.url("/in");
    browse(async |page| {
        page.devtools(
            "Browser.grantPermissions",
            serde_json::json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}),
        )
        .await;
        page.goto(&app.screen("endpoints")).await;
        page.follow("New endpoint").await;
        page.fill("url", "http://169.254.169.254/latest").await;
        page.fill("description", "Shipping \"<b>\" & co").await;
        page.fill("event_types", "order.*, invoice.paid").await;
        page.fill("headers", "x-shop: 7\nx-lane: fast").await;
        page.fill("retry_schedule", "5, 60").await;
        page.press("Create").await;
        page.see("This host is not permitted").await;
        for (name, typed) in [
            ("url", "http://169.254.169.254/latest"),
            ("description", "Shipping \"<b>\" & co"),
            ("event_types", "order.*, invoice.paid"),
            ("headers", "x-shop: 7\nx-lane: fast"),
            ("retry_schedule", "5, 60"),
        ] {
            assert_eq!(page.value(name).await, typed, "{name}");
        }
        page.fill("url", &good).await;
        page.press("Create").await;
        page.see("whsec_").await;
        page.press("Copy").await;
        page.find("//button[normalize-space()='Copied']").await;
        let copied = page.promised("navigator.clipboard.readText()").await;
        let copied = copied.as_str().unwrap();
        assert!(copied.starts_with("whsec_"), "{copied}");
        let secret = page.find("//*[starts-with(normalize-space(text()), 'whsec_')]");
        assert_eq!(secret.await.text().await.unwrap(), copied);
        page.follow("To the endpoint").await;
        page.see("Shipping \"<b>\" & co").await;
        page.see("order.*, invoice.paid").await;
        assert!(!page.text().await.contains("whsec_"));
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_is_edited_paused_and_resumed() {
    let app = App::open().await;
    let endpoint = app.endpoint("/in").await;
    browse(async |page| {
        page.goto(&app.screen(&format!("endpoints/{}", endpoint.id)))
            .await;
        page.follow("Edit").await;
        assert_eq!(page.value("url").await, app.receiver.url("/in"));
        page.fill("description", "Billing").await;
        page.fill("rate_limit", "10").await;
        page.fill("rate_seconds", "2").await;
        page.press("Save").await;
        page.see("Billing").await;
        page.see("10 in 2.0 s").await;
        page.press("Pause").await;
        page.find("//button[normalize-space()='Resume']").await;
        page.see("paused").await;
        page.press("Resume").await;
        page.find("//button[normalize-space()='Pause']").await;
        page.see("enabled").await;
        page.unfold("Delete").await;
        page.press("Delete this endpoint").await;
        page.see("There are none yet.").await;
        assert_eq!(page.url().await, app.screen("endpoints"));
    })
    .await;
}

#[tokio::test]
async fn a_test_shows_what_the_receiver_answered_and_a_new_secret_is_another() {
    let app = App::open().await;
    let endpoint = app.endpoint("/in").await;
    let old = endpoint.secrets[0].secret.expose().to_owned();
    app.receiver.answers("/in", 418, "I am a teapot");
    browse(async |page| {
        let screen = app.screen(&format!("endpoints/{}", endpoint.id));
        page.goto(&screen).await;
        page.press("Send a test").await;
        page.see("HTTP 418").await;
        page.see("I am a teapot").await;
        page.follow("The delivery").await;
        page.see("Attempts").await;
        page.goto(&screen).await;
        page.unfold("Send a test with").await;
        page.fill("event_type", "order.paid").await;
        page.fill("data", "{\"order\": 7}").await;
        page.press("Send this test").await;
        page.see("HTTP 418").await;
        page.follow("The delivery").await;
        page.see("Delivery of order.paid").await;
        page.goto(&screen).await;
        page.unfold("Rotate the secret").await;
        page.choose("overlap", "an hour").await;
        page.press("Make a new secret").await;
        page.see("signs beside it for an hour").await;
        page.see("whsec_").await;
        let shown = page.text().await;
        assert!(!shown.contains(&old));
        let endpoint = app.dispatcher.endpoints().get(endpoint.id).await.unwrap();
        assert!(shown.contains(endpoint.secrets[0].secret.expose()));
    })
    .await;
}
