//! The audit log: each form that changes something is written down, and who may read of it.

use axum::Router;
use webhook_axum::{Auth, AuthRejection, Authorizer, Identity, router};
use webhook_core::testing::{ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    AuditAction, AuditFilter, DeliveryFilter, DeliveryStatus, Dispatcher, MemoryStore, PageRequest,
    Tenant,
};

use super::{CSRF, form, get, send};

/// Whoever the header says, an operator of everything, or of one tenant.
struct Named;

#[async_trait::async_trait]
impl Authorizer for Named {
    async fn authorize(&self, parts: &http::request::Parts) -> Result<Identity, AuthRejection> {
        let tenant = parts.headers.get("x-tenant");
        let tenant = tenant.map(|it| Tenant::new(it.to_str().unwrap()).unwrap());
        let support = Identity::operator("support");
        Ok(match tenant {
            Some(tenant) => support.within(tenant),
            None => support,
        })
    }
}

/// The engine, and its dashboard as `support` uses it.
struct Desk {
    dispatcher: Dispatcher,
    clock: ManualClock,
    app: Router,
}

impl Desk {
    fn new() -> Self {
        let clock = ManualClock::default();
        let dispatcher = Dispatcher::builder(MemoryStore::new())
            .transport(ScriptedTransport::default())
            .clock(clock.clone())
            .build()
            .unwrap()
            .erase();
        Self {
            app: router(dispatcher.clone(), Auth::custom(Named)),
            dispatcher,
            clock,
        }
    }

    /// Sends a form, which must work.
    async fn submit(&self, page: &str, fields: &str) {
        let body = format!("csrf={CSRF}&{fields}");
        let answer = send(&self.app, form(&format!("/dashboard/{page}")), &body).await;
        assert!(answer.status.as_u16() < 400, "{page}: {}", answer.text);
    }

    async fn submit_to(&self, endpoint: uuid::Uuid, action: &str) {
        self.submit(&format!("endpoints/{endpoint}/{action}"), "")
            .await;
    }

    async fn go_on(&self) {
        loop {
            self.dispatcher.step().await.unwrap();
            self.clock.advance(std::time::Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    }

    async fn settle(&self) {
        let nothing = std::time::Duration::ZERO;
        fast_forward(&self.dispatcher, &self.clock, nothing)
            .await
            .unwrap();
    }

    async fn endpoint(&self, tenant: &str) -> uuid::Uuid {
        let fields = format!("url=https%3A%2F%2Fexample.com&tenant={tenant}");
        self.submit("endpoints", &fields).await;
        let list = self.dispatcher.endpoints().list(one()).await.unwrap();
        list.items[0].id
    }

    /// The newest delivery in this state.
    async fn delivery(&self, status: DeliveryStatus) -> webhook_core::Delivery {
        let filter = DeliveryFilter {
            status: Some(status),
            ..DeliveryFilter::default()
        };
        let list = self.dispatcher.deliveries().list(&filter, one()).await;
        list.unwrap().items.remove(0)
    }
}

fn one() -> PageRequest {
    PageRequest {
        before: None,
        limit: 1,
    }
}

#[tokio::test]
async fn every_form_that_changes_something_is_written_down_with_the_name_of_who_sent_it() {
    let desk = Desk::new();
    desk.submit("event-types", "name=a").await;
    let endpoint = desk.endpoint("acme").await;
    let edit = "url=https%3A%2F%2Fexample.com&description=x";
    desk.submit(&format!("endpoints/{endpoint}/edit"), edit)
        .await;
    // The answer waits for the attempt.
    tokio::select! {
        () = desk.submit_to(endpoint, "test") => {}
        () = desk.go_on() => unreachable!("it goes on until dropped"),
    }
    desk.submit_to(endpoint, "rotate").await;
    desk.submit("event-types/send", "event_type=a&tenant=acme")
        .await;
    desk.settle().await;
    let sent = desk.delivery(DeliveryStatus::Succeeded).await;
    desk.submit(&format!("events/{}/replay", sent.event_id), "")
        .await;
    desk.settle().await;
    desk.submit(&format!("deliveries/{}/replay", sent.id), "")
        .await;
    let again = desk.delivery(DeliveryStatus::Pending).await;
    desk.submit(&format!("deliveries/{}/cancel", again.id), "")
        .await;
    let selection = format!("endpoint_id={endpoint}&status=succeeded");
    desk.submit("replays", &selection).await;
    let replays = desk.dispatcher.replays().list(one()).await.unwrap();
    desk.submit(&format!("replays/{}/cancel", replays.items[0].id), "")
        .await;
    desk.submit(&format!("endpoints/{endpoint}/state"), "state=paused")
        .await;
    desk.submit_to(endpoint, "delete").await;

    let by_support = AuditFilter::default().actor("support".to_owned());
    let all = PageRequest {
        before: None,
        limit: 50,
    };
    let log = desk
        .dispatcher
        .audit()
        .list(&by_support, all)
        .await
        .unwrap();
    let mut actions: Vec<_> = log.items.iter().map(|it| it.action).collect();
    actions.reverse();
    assert_eq!(
        actions,
        [
            AuditAction::EventTypePut,
            AuditAction::EndpointCreate,
            AuditAction::EndpointUpdate,
            AuditAction::EndpointTest,
            AuditAction::EndpointRotateSecret,
            AuditAction::EventSend,
            AuditAction::EventReplay,
            AuditAction::DeliveryReplay,
            AuditAction::DeliveryCancel,
            AuditAction::ReplayStart,
            AuditAction::ReplayCancel,
            AuditAction::EndpointUpdate,
            AuditAction::EndpointDelete,
        ]
    );
}

#[tokio::test]
async fn entries_are_found_by_each_field_of_the_form() {
    let desk = Desk::new();
    let endpoint = desk.endpoint("acme").await;
    desk.endpoint("other").await;
    desk.submit("event-types", "name=a").await;
    for (query, expected) in [
        ("", 3),
        ("actor=support&action=&target=&tenant=&since=&until=", 3),
        ("actor=bob", 0),
        ("action=endpoint.create", 2),
        ("tenant=acme", 1),
        ("since=2023-11-14T22:13", 3),
        ("since=2999-01-01T00:00", 0),
        ("until=2999-01-01T00:00", 3),
    ] {
        let page = get(&desk.app, &format!("/dashboard/audit?{query}")).await;
        assert_eq!(
            page.text.matches(">support</td>").count(),
            expected,
            "{query}: {}",
            page.text
        );
    }
    let path = format!("/dashboard/audit?target={endpoint}");
    let page = get(&desk.app, &path).await.text;
    assert!(page.contains(&format!("href=\"./endpoints/{endpoint}\"")));
    assert_eq!(page.matches(">support</td>").count(), 1);
    let refused = get(&desk.app, "/dashboard/audit?action=x").await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("Action must be one of"));
}

#[tokio::test]
async fn a_long_log_is_read_page_by_page_under_the_same_filter() {
    let desk = Desk::new();
    for _ in 0..51 {
        desk.submit("event-types", "name=a").await;
    }
    desk.endpoint("acme").await;
    let first = get(&desk.app, "/dashboard/audit?action=event_type.put").await;
    assert_eq!(first.text.matches(">support</td>").count(), 50);
    let next = first.text.split("rel=\"next\" href=\"").nth(1).unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    let second = get(&desk.app, &format!("/dashboard/audit{next}")).await;
    assert_eq!(second.text.matches(">support</td>").count(), 1);
    assert!(
        second.text.contains("<td>event_type.put</td>") && !second.text.contains("rel=\"next\"")
    );
}

#[tokio::test]
async fn a_tenants_readers_see_what_was_done_to_theirs_alone() {
    let desk = Desk::new();
    desk.endpoint("acme").await;
    desk.endpoint("other").await;
    desk.submit("event-types", "name=a").await;
    let read = async |query: &str| {
        let request = http::Request::builder().uri(format!("/dashboard/audit{query}"));
        send(&desk.app, request.header("x-tenant", "acme"), "").await
    };
    let page = read("").await;
    assert_eq!(
        page.text.matches(">support</td>").count(),
        1,
        "{}",
        page.text
    );
    assert!(!page.text.contains("other") && !page.text.contains("name=\"tenant\""));
    assert_eq!(read("?tenant=other").await.status, 403);
}
