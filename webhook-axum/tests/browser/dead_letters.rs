//! Dead letters: counted, replayed, watched until they are through; and a replay that is cancelled.

use webhook_axum::Auth;
use webhook_core::testing::ScriptedTransport;
use webhook_core::{
    DeliveryFilter, DeliveryStatus, Dispatcher, MemoryStore, NewEndpoint, PageRequest,
};

use crate::app::App;
use crate::page::browse;

const DEAD: usize = 7;

/// So many dead letters, of an endpoint that is well again.
async fn with_dead_letters() -> App {
    let app = App::open().await;
    app.endpoint("/in").await;
    app.receiver.answers("/in", 400, "closed");
    for _ in 0..DEAD {
        app.send("order.paid").await;
    }
    app.settled().await;
    app.receiver.answers("/in", 200, "open");
    app
}

#[tokio::test]
async fn dead_letters_are_counted_and_then_replayed_until_done() {
    let app = with_dead_letters().await;
    browse(async |page| {
        page.goto(&app.screen("dead-letters")).await;
        page.see("http_400").await;
        page.follow("Replay…").await;
        page.see(&format!("{DEAD} deliveries would be made")).await;
        page.fill("pace", "100").await;
        page.press("Start").await;
        page.find("//progress").await;
        page.see("completed").await;
        page.see(&format!("{DEAD} made")).await;
        page.goto(&app.screen("replays")).await;
        page.see("completed").await;
    })
    .await;
    app.settled().await;
    let succeeded = DeliveryFilter {
        status: Some(DeliveryStatus::Succeeded),
        ..DeliveryFilter::default()
    };
    let page = PageRequest::first(100);
    let list = app.dispatcher.deliveries().list(&succeeded, page).await;
    assert_eq!(list.unwrap().items.len(), DEAD);
}

#[tokio::test]
async fn a_replay_that_goes_on_is_cancelled() {
    let refusal = ScriptedTransport::new([400]);
    let builder = Dispatcher::builder(MemoryStore::new()).transport(refusal);
    let dispatcher = builder.build().unwrap().erase();
    // Nobody runs it: what is started goes on until it is cancelled.
    let app = App::of(dispatcher, Auth::none()).await;
    let new = NewEndpoint::new("https://example.com".parse().unwrap());
    app.dispatcher.endpoints().create(new).await.unwrap();
    app.send("order.paid").await;
    app.dispatcher.step().await.unwrap();
    browse(async |page| {
        page.goto(&app.screen("replays/new?status=failed")).await;
        page.press("Start").await;
        page.see("running").await;
        page.press("Cancel").await;
        page.see("cancelled").await;
        assert_eq!(page.count("//button[normalize-space()='Cancel']").await, 0);
    })
    .await;
}
