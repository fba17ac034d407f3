//! The pictures of the documentation: a shop's day, by the engine itself with the clock in our hands. They are taken
//! with every run, and kept in the folder that `SCREENSHOTS` names: `cargo xtask screenshots`.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::json;
use uuid::Uuid;
use webhook_axum::{Auth, AuthRejection, Authorizer, Identity};
use webhook_core::testing::{ManualClock, fast_forward};
use webhook_core::{
    Clock as _, DeliveryFilter, DeliveryStatus, Dispatcher, Endpoint, EndpointReplay,
    EndpointState, MemoryStore, NewCatalogueEntry, NewEndpoint, NewEvent, NewReplay, PageRequest,
    Process, ReplaySelection, ResponseDetails, Store, Timestamp, Transport, TransportError,
    TransportErrorKind,
};

use crate::app::App;
use crate::page::{Page, browse};

/// So long is a step of the day.
const STEP: Duration = Duration::from_secs(300);
const STEPS: u32 = 288;
/// From this step on the warehouse is down, for this many.
const DOWN: (u32, u32) = (150, 14);

/// The receivers: each answers in its own way and time.
struct Receivers {
    clock: ManualClock,
    draws: Mutex<u64>,
}

impl Receivers {
    /// The next of numbers that are the same with every run, below `end`.
    fn draw(&self, end: u64) -> u64 {
        let mut state = self.draws.lock().unwrap();
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % end
    }

    fn answer(
        &self,
        host: &str,
        is_old: bool,
    ) -> (u64, Result<(u16, &'static str), TransportErrorKind>) {
        match host {
            "hooks.dispatch.example.com" => (18 + self.draw(40), Ok((200, r#"{"ok":true}"#))),
            "api.invoices.example.com" => (60 + self.draw(90), Ok((202, r#"{"queued":true}"#))),
            "crm.example.net" if self.draw(25) == 0 => (900, Ok((500, "Internal Server Error"))),
            "crm.example.net" => (180 + self.draw(400), Ok((200, ""))),
            "partner.example.org" if is_old => (
                35,
                Ok((422, r#"{"error":"unknown currency","field":"currency"}"#)),
            ),
            "partner.example.org" => (30 + self.draw(20), Ok((200, ""))),
            _ if self.is_down() => (40, Ok((503, r#"{"error":"maintenance"}"#))),
            _ => (25 + self.draw(60), Ok((204, ""))),
        }
    }

    /// Whether the warehouse is.
    fn is_down(&self) -> bool {
        let step = self.clock.now().since(begin()).as_secs() / STEP.as_secs();
        let (from, steps) = (u64::from(DOWN.0), u64::from(DOWN.1));
        (from..from + steps).contains(&step) || step >= u64::from(STEPS) - 10
    }
}

#[async_trait::async_trait]
impl Transport for Receivers {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let host = request.uri().host().unwrap_or_default();
        let body = String::from_utf8_lossy(request.body());
        let (took, answer) = self.answer(host, body.contains("GBP"));
        let took = Duration::from_millis(took);
        self.clock.advance(took);
        let (status, body) = answer.map_err(TransportError::new)?;
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let headers = response.headers_mut();
        headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/json"),
        );
        headers.insert("server", http::HeaderValue::from_static("nginx"));
        let details = ResponseDetails::default().first_byte(took.mul_f64(0.8));
        response.extensions_mut().insert(details);
        Ok(response)
    }
}

/// A morning of spring.
fn begin() -> Timestamp {
    "2026-05-19T14:00:00Z".parse().unwrap()
}

/// Who looks at it.
struct Support;

#[async_trait::async_trait]
impl Authorizer for Support {
    async fn authorize(&self, _: &http::request::Parts) -> Result<Identity, AuthRejection> {
        Ok(Identity::operator("support"))
    }
}

/// The engine after its day.
struct Shop {
    store: MemoryStore,
    dispatcher: Dispatcher,
    clock: ManualClock,
}

impl Shop {
    async fn open() -> Self {
        let clock = ManualClock::new(begin());
        let receivers = Receivers {
            clock: clock.clone(),
            draws: Mutex::new(7),
        };
        let store = MemoryStore::new();
        let dispatcher = Dispatcher::builder(store.clone())
            .transport(receivers)
            .clock(clock.clone())
            .seed(7)
            .build()
            .unwrap()
            .erase();
        let shop = Self {
            store,
            dispatcher,
            clock,
        };
        shop.fill_catalogue().await;
        for (url, description, types) in [
            (
                "https://hooks.dispatch.example.com/orders",
                "Dispatch",
                "order.*",
            ),
            (
                "https://api.invoices.example.com/v2/webhooks",
                "Invoices",
                "invoice.*",
            ),
            (
                "https://warehouse.example.com/in",
                "Warehouse, north",
                "order.paid",
            ),
            (
                "https://crm.example.net/hooks/shop",
                "CRM sync",
                "customer.*",
            ),
            (
                "https://partner.example.org/webhook",
                "Partner shop",
                "order.paid",
            ),
            (
                "https://staging.example.com/webhooks",
                "Staging; paused over the release",
                "customer.*",
            ),
        ] {
            shop.add(url, description, types).await;
        }
        shop
    }

    async fn fill_catalogue(&self) {
        let types = self.dispatcher.event_types().by("support");
        for (name, description) in [
            (
                "customer.updated",
                "A customer changed their address or their consent.",
            ),
            ("invoice.paid", "An invoice is settled in full."),
            ("order.created", "Somebody ordered; nothing is paid yet."),
            ("order.paid", "The payment of an order is confirmed."),
        ] {
            let entry = NewCatalogueEntry::new(name.parse().unwrap()).description(description);
            types.clone().put(entry).await.unwrap();
        }
    }

    async fn add(&self, url: &str, description: &str, types: &str) -> Endpoint {
        let new = NewEndpoint::new(url.parse().unwrap())
            .description(description)
            .event_types([types.parse().unwrap()]);
        let endpoints = self.dispatcher.endpoints().by("support");
        let endpoint = endpoints.create(new).await.unwrap();
        if description.starts_with("Staging") {
            let pause = endpoints.update(endpoint.id, |it| it.state = EndpointState::Paused);
            return pause.await.unwrap();
        }
        endpoint
    }

    /// More by day than by night.
    async fn live(&self) {
        for step in 0..STEPS {
            let hour = (14 + step / 12) % 24;
            let busy = [
                1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 6, 5, 5, 6, 6, 7, 8, 7, 5, 3, 2,
            ];
            let count = busy[hour as usize] + step % 3;
            for number in 0..count {
                self.enqueue(step * 10 + number).await;
            }
            fast_forward(&self.dispatcher, &self.clock, Duration::ZERO)
                .await
                .unwrap();
            let next = begin() + STEP * (step + 1);
            let left = next.since(self.clock.now());
            fast_forward(&self.dispatcher, &self.clock, left)
                .await
                .unwrap();
        }
    }

    async fn enqueue(&self, number: u32) {
        let order = 480_000 + number;
        let total = f64::from(1_900 + number * 37 % 9_000) / 100.0;
        let currency = if number.is_multiple_of(46) {
            "GBP"
        } else {
            "EUR"
        };
        let (name, data) = match number % 5 {
            0 => (
                "order.created",
                json!({"order": order, "items": 1 + number % 4, "total": total, "currency": currency}),
            ),
            1 | 2 => (
                "order.paid",
                json!({"order": order, "total": total, "currency": currency, "method": "card"}),
            ),
            3 => (
                "invoice.paid",
                json!({"invoice": format!("R-{order}"), "total": total, "currency": currency}),
            ),
            _ => (
                "customer.updated",
                json!({"customer": 7_000 + number % 900, "fields": ["address"]}),
            ),
        };
        let event = NewEvent::json(name, &data).unwrap();
        self.dispatcher.enqueue(event).await.unwrap();
    }

    /// The newest delivery to this endpoint that failed and goes on.
    async fn failing(&self, endpoint: Uuid) -> String {
        let filter = DeliveryFilter {
            endpoint_id: Some(endpoint),
            status: Some(DeliveryStatus::Pending),
            ..DeliveryFilter::default()
        };
        let deliveries = self.dispatcher.deliveries();
        let list = deliveries.list(&filter, PageRequest::first(100)).await;
        let mut found = list.unwrap().items.into_iter();
        found.find(|it| it.attempts > 1).unwrap().id.to_string()
    }

    async fn endpoint(&self, description: &str) -> Endpoint {
        let list = self
            .dispatcher
            .endpoints()
            .list(PageRequest::first(20))
            .await;
        let mut found = list.unwrap().items.into_iter();
        found
            .find(|it| it.settings.description == description)
            .unwrap()
    }

    /// Two processes say that they deliver. (The day itself goes step by step.)
    async fn has_workers(&self) {
        let now = self.clock.now();
        for (id, in_flight) in [(1, 3), (2, 1)] {
            let process = Process {
                id: Uuid::from_u128(id),
                role: "worker".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                started_at: begin(),
                seen_at: now,
                in_flight,
                slots: 256,
            };
            self.store.put_process(&process, Some(now)).await.unwrap();
        }
    }

    /// Of all that dispatch got this day, on its way.
    async fn replay(&self) -> String {
        let selection = ReplaySelection::Endpoint(EndpointReplay {
            endpoint_id: self.endpoint("Dispatch").await.id,
            since: begin(),
            until: None,
            status: None,
        });
        let replays = self.dispatcher.replays().by("support");
        let new = NewReplay::new(selection).created_by("support");
        let replay = replays.start(new).await.unwrap();
        self.dispatcher.step().await.unwrap();
        replay.id.to_string()
    }
}

/// Takes a picture of what the window shows, and keeps it where that is wanted.
async fn take(page: &Page, name: &str) {
    let picture = page.picture().await;
    assert!(picture.starts_with(b"\x89PNG"), "{name}");
    assert!(
        picture.len() < 256 * 1_024,
        "{name}: {} bytes",
        picture.len()
    );
    if let Some(folder) = std::env::var_os("SCREENSHOTS") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }
}

#[tokio::test]
async fn a_shops_day_is_on_the_screens() {
    let shop = Shop::open().await;
    shop.live().await;
    shop.has_workers().await;
    let app = App::of(shop.dispatcher.clone(), Auth::custom(Support)).await;
    let warehouse = shop.endpoint("Warehouse, north").await.id;
    let delivery = shop.failing(warehouse).await;
    browse(async |page| {
        page.believe(shop.dispatcher.now()).await;
        page.be_sized(1_280, 800).await;
        page.goto(&app.screen("")).await;
        page.see("https://warehouse.example.com/in").await;
        take(page, "overview").await;
        page.prefer("dark").await;
        take(page, "overview-dark").await;
        page.prefer("light").await;
        page.goto(&app.screen("endpoints")).await;
        page.see("Staging; paused over the release").await;
        take(page, "endpoints").await;
        page.goto(&app.screen(&format!("endpoints/{warehouse}")))
            .await;
        page.see("open").await;
        take(page, "endpoint").await;
        page.goto(&app.screen("deliveries")).await;
        page.see("order.paid").await;
        take(page, "deliveries").await;
        page.goto(&app.screen(&format!("deliveries/{delivery}")))
            .await;
        page.see("HTTP 503").await;
        page.unfold("Request and response").await;
        take(page, "delivery").await;
        page.goto(&app.screen("dead-letters")).await;
        page.see("http_422").await;
        take(page, "dead-letters").await;
        let replay = shop.replay().await;
        page.goto(&app.screen(&format!("replays/{replay}"))).await;
        page.see("running").await;
        take(page, "replay").await;
        page.be_a_phone().await;
        page.goto(&app.screen("")).await;
        page.see("Overview").await;
        take(page, "phone").await;
    })
    .await;
}
