//! Endpoints: their list, and what a saved form changes.

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::{AuditFilter, Dispatcher, Endpoint, NewEndpoint, PageRequest};

use super::{Answer, CSRF, dispatcher, form, get, send};

/// An endpoint, and its form.
struct Desk {
    dispatcher: Dispatcher,
    app: Router,
    made: Endpoint,
}

impl Desk {
    async fn with(new: NewEndpoint) -> Self {
        let dispatcher = dispatcher();
        Self {
            app: router(dispatcher.clone(), Auth::none()),
            made: dispatcher.endpoints().create(new).await.unwrap(),
            dispatcher,
        }
    }

    async fn save(&self, fields: &str) -> Answer {
        let path = format!("/dashboard/endpoints/{}/edit", self.made.id);
        send(&self.app, form(&path), &format!("csrf={CSRF}&{fields}")).await
    }

    async fn stored(&self) -> Endpoint {
        let endpoints = self.dispatcher.endpoints();
        endpoints.get(self.made.id).await.unwrap()
    }

    /// How many changes the audit log tells of.
    async fn told(&self) -> usize {
        let all = AuditFilter::default();
        let log = self.dispatcher.audit();
        log.list(&all, PageRequest::first(9))
            .await
            .unwrap()
            .items
            .len()
    }
}

fn new_endpoint() -> NewEndpoint {
    NewEndpoint::new("https://example.com/in".parse().unwrap())
}

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

#[tokio::test]
async fn a_form_that_is_refused_or_changes_nothing_leaves_no_trace() {
    let desk = Desk::with(new_endpoint()).await;
    let url = "url=https%3A%2F%2Fexample.com%2Fin";
    let refused = desk.save(&format!("{url}&headers=x+bad%3A+1")).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("is not a header name"));
    assert_eq!(desk.save(url).await.status, 303);
    let stored = desk.stored().await;
    assert_eq!(
        (stored.version, stored.updated_at, desk.told().await),
        (1, desk.made.updated_at, 0)
    );
    let other = desk.save(&format!("{url}&description=x")).await;
    assert_eq!(other.status, 303, "{}", other.text);
    assert_eq!((desk.stored().await.version, desk.told().await), (2, 1));
}
