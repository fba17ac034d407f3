//! Event types, and the audit log of what was done on these pages.

use crate::app::App;
use crate::page::browse;

#[tokio::test]
async fn an_event_type_is_added_and_an_event_of_it_sent_and_both_are_in_the_audit_log() {
    let app = App::open().await;
    app.endpoint("/in").await;
    browse(async |page| {
        page.goto(&app.screen("event-types")).await;
        page.fill("name", "order.paid").await;
        page.fill("description", "Somebody paid").await;
        page.fill("schema", "{\"type\": 7}").await;
        page.press("Save").await;
        page.see("schema").await;

        page.goto(&app.screen("event-types")).await;
        page.fill("name", "order.paid").await;
        page.fill("description", "Somebody paid").await;
        page.fill("schema", "{\"type\":\"object\",\"required\":[\"order\"]}")
            .await;
        page.fill("example", "{\"order\":8}").await;
        page.press("Save").await;
        page.see("Somebody paid").await;
        page.unfold("order.paid").await;
        page.see("\"required\"").await;
        page.press("Send an event").await;
        page.see("Where it went, and why").await;
        page.see("\"order\": 8").await;

        page.goto(&app.screen("audit")).await;
        page.choose("action", "event_type.put").await;
        page.press("Search").await;
        page.find("//td[normalize-space()='event_type.put']").await;
        page.follow("order.paid").await;
        assert_eq!(page.url().await, app.screen("event-types"));
    })
    .await;
}
