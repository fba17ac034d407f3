//! Endpoints: their list, and what a saved form changes.

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::NewEndpoint;

use super::{dispatcher, get};

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let dispatcher = dispatcher();
    let app: Router = router(dispatcher.clone(), Auth::none());
    for number in 0..51 {
        let url = format!("https://example.com/{number}");
        let new = NewEndpoint::new(url.parse().unwrap());
        dispatcher.endpoints().create(new).await.unwrap();
    }
    let first = get(&app, "/dashboard/endpoints").await.text;
    assert_eq!(first.matches(">https://example.com/").count(), 50);
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap();
    let next = next.split('"').next().unwrap();
    let second = get(&app, &format!("/dashboard/endpoints{next}")).await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_eq!(second.text.matches(">https://example.com/").count(), 1);
    assert!(second.text.contains(">https://example.com/0<"));
    assert!(!second.text.contains("rel=\"next\""));
}
