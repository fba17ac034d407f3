//! Pages follow what happens, and leave those in peace who read or type.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use webhook_axum::Auth;
use webhook_core::testing::Intercepted;
use webhook_core::{Dispatcher, EndpointState, Error, ErrorKind, MemoryStore};

use crate::app::App;
use crate::page::{Page, TAB, browse};

/// Waits until the page is told of changes, and marks it, so that it is known again.
async fn is_told(page: &Page) {
    page.ask("window.mark = 'the same page'").await;
    let opened = "new Promise(done => {
        const other = new EventSource(document.body.dataset.root + 'live');
        other.onopen = () => { other.close(); done(true); };
    })";
    assert_eq!(page.promised(opened).await, true);
}

async fn expect_the_same_page(page: &Page) {
    assert_eq!(page.ask("return window.mark").await, "the same page");
}

#[tokio::test]
async fn the_overview_shows_what_fails_without_being_loaded_anew() {
    let app = App::open().await;
    app.endpoint("/in").await;
    app.receiver.answers("/in", 400, "no");
    browse(async |page| {
        page.goto(&app.screen("")).await;
        page.see("No attempt failed.").await;
        is_told(page).await;
        app.send("order.paid").await;
        page.see(&app.receiver.url("/in")).await;
        expect_the_same_page(page).await;
    })
    .await;
}

#[tokio::test]
async fn a_delivery_shows_its_attempt_and_the_focus_stays_where_it_was() {
    let app = App::open().await;
    let endpoint = app.endpoint("/in").await;
    let set = async |state| {
        let endpoints = app.dispatcher.endpoints();
        let change = endpoints.update(endpoint.id, |it| it.state = state);
        change.await.unwrap();
    };
    set(EndpointState::Paused).await;
    app.send("order.paid").await;
    let delivery = app.delivery().await;
    browse(async |page| {
        page.goto(&app.screen(&format!("deliveries/{}", delivery.id)))
            .await;
        page.see("None yet.").await;
        is_told(page).await;
        // Past the link to the content, to the first screen.
        page.key(TAB).await;
        page.key(TAB).await;
        let focused = "return document.activeElement.textContent.trim()";
        assert_eq!(page.ask(focused).await, "Overview");
        set(EndpointState::Enabled).await;
        page.see("HTTP 200").await;
        expect_the_same_page(page).await;
        assert_eq!(page.ask(focused).await, "Overview");
    })
    .await;
}

#[tokio::test]
async fn a_field_that_is_typed_into_is_left_alone() {
    let app = App::open().await;
    app.endpoint("/in").await;
    browse(async |page| {
        page.goto(&app.screen("deliveries")).await;
        page.field("event_type").await.click().await.unwrap();
        page.keys("ord").await;
        page.ask("window.mark = 'the same page'").await;
        let changed = "new Promise(done => {
            const other = new EventSource(document.body.dataset.root + 'live');
            other.addEventListener('changed', async () => {
                other.close();
                // The page was told before, and has asked for itself by the time that this is answered.
                await fetch(location.href);
                done(true);
            });
            other.onopen = () => window.isTold = true;
        })";
        page.ask(&format!("window.changed = {changed}")).await;
        page.promised("new Promise(done => (function look() { window.isTold ? done(true) : requestAnimationFrame(look) })())")
            .await;
        app.send("order.paid").await;
        assert_eq!(page.promised("window.changed").await, true);
        page.keys("er").await;
        assert_eq!(page.value("event_type").await, "order");
        expect_the_same_page(page).await;
    })
    .await;
}

#[tokio::test]
async fn the_overview_says_that_the_store_is_away_and_comes_back_with_it() {
    let is_there = Arc::new(AtomicBool::new(true));
    let asked = is_there.clone();
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let away = Error::new(ErrorKind::Unavailable, operation);
        std::future::ready(asked.load(Ordering::Relaxed).then_some(()).ok_or(away))
    });
    let dispatcher = Dispatcher::builder(store).build().unwrap().erase();
    let app = App::of(dispatcher, Auth::none()).await;
    browse(async |page| {
        page.goto(&app.screen("")).await;
        page.see("No attempt failed.").await;
        is_told(page).await;
        is_there.store(false, Ordering::Relaxed);
        page.see("The store does not answer").await;
        page.see("Waiting for the store").await;
        expect_the_same_page(page).await;
        is_there.store(true, Ordering::Relaxed);
        page.see("No attempt failed.").await;
        expect_the_same_page(page).await;

        is_there.store(false, Ordering::Relaxed);
        page.goto(&app.screen("")).await;
        page.see("The store does not answer").await;
        page.ask("window.mark = 'the same page'").await;
        is_there.store(true, Ordering::Relaxed);
        page.see("No attempt failed.").await;
        expect_the_same_page(page).await;
    })
    .await;
}

#[tokio::test]
async fn an_open_page_says_that_others_are_in_its_way_and_keeps_what_it_shows() {
    let is_busy = Arc::new(AtomicBool::new(false));
    let asked = is_busy.clone();
    let store = Intercepted::new(MemoryStore::new(), move |operation| {
        let is_look = matches!(operation, "stats" | "deliveries");
        let refused = Error::new(ErrorKind::Overloaded, operation);
        let is_refused = is_look && asked.load(Ordering::Relaxed);
        std::future::ready(if is_refused { Err(refused) } else { Ok(()) })
    });
    let dispatcher = Dispatcher::builder(store).build().unwrap().erase();
    let app = App::of(dispatcher, Auth::none()).await;
    browse(async |page| {
        page.goto(&app.screen("deliveries")).await;
        page.see("Deliveries, newest first").await;
        page.see("Live").await;
        is_told(page).await;
        is_busy.store(true, Ordering::Relaxed);
        page.see("Busy: shown as it was before").await;
        page.see("Deliveries, newest first").await;
        is_busy.store(false, Ordering::Relaxed);
        page.see("Live").await;
        expect_the_same_page(page).await;
    })
    .await;
}
