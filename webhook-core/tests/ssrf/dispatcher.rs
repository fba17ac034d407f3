//! The recorded cases through a dispatcher: when an endpoint is registered, and at each attempt for one that
//! got into the store by another way.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use webhook_core::backend::{Encryption, EndpointRow};
use webhook_core::testing::{ManualClock, ScriptedTransport, endpoint_for, fast_forward};
use webhook_core::{
    Attempt, Blocked, Delivery, DeliveryFilter, DeliveryStatus, Dispatcher, EndpointSettings,
    EndpointUrl, ErrorKind, Failure, ManageError, MemoryStore, NetworkPolicy, NewEndpoint,
    NewEvent, Outcome, PageRequest, Resolve, Store, Transport, TransportErrorKind,
};

use super::{Guarded, Guards, cases};

/// Longer than all tries of a delivery take.
const ALL_TRIES: Duration = Duration::from_secs(2 * 86_400);
/// Those that the default schedule makes.
const TRIES: usize = 6;

/// A dispatcher whose store takes endpoints past its policy, as one does that a laxer policy let in.
pub(super) struct World {
    pub(super) dispatcher: Dispatcher,
    store: MemoryStore,
    clock: ManualClock,
}

impl World {
    pub(super) fn new(policy: NetworkPolicy, transport: impl Transport + 'static) -> Self {
        let (store, clock) = (MemoryStore::new(), ManualClock::default());
        let dispatcher = Dispatcher::builder(store.clone())
            .network_policy(policy)
            .transport(transport)
            .clock(clock.clone())
            .seed(1)
            .build();
        Self {
            dispatcher: dispatcher.unwrap().erase(),
            store,
            clock,
        }
    }

    /// Stores an endpoint that nobody has judged.
    pub(super) async fn smuggle(&self, url: EndpointUrl) {
        let mut endpoint = endpoint_for("default", EndpointSettings::default());
        endpoint.url = url;
        self.store
            .insert_endpoint(&endpoint, usize::MAX)
            .await
            .unwrap();
    }

    /// Enqueues an event, and answers its one delivery after so much time.
    pub(super) async fn deliver(&self, within: Duration) -> (Delivery, Vec<Attempt>) {
        let mut deliveries = self.enqueue(within).await;
        assert_eq!(deliveries.len(), 1);
        let delivery = deliveries.remove(0);
        let attempts = self.dispatcher.deliveries().attempts(delivery.id).await;
        (delivery, attempts.unwrap())
    }

    /// Enqueues an event, and answers the attempts of each of its deliveries after so much time.
    pub(super) async fn deliver_all(&self, within: Duration) -> Vec<Vec<Attempt>> {
        let mut all = Vec::new();
        for delivery in self.enqueue(within).await {
            let attempts = self.dispatcher.deliveries().attempts(delivery.id).await;
            all.push(attempts.unwrap());
        }
        all
    }

    /// Lets so much time pass.
    pub(super) async fn pass(&self, time: Duration) {
        fast_forward(&self.dispatcher, &self.clock, time)
            .await
            .unwrap();
    }

    async fn enqueue(&self, within: Duration) -> Vec<Delivery> {
        let event = NewEvent::raw("order.paid", "ping").unwrap();
        let id = self.dispatcher.enqueue(event).await.unwrap();
        self.pass(within).await;
        let filter = DeliveryFilter {
            event_id: Some(id),
            ..DeliveryFilter::default()
        };
        let deliveries = self.dispatcher.deliveries();
        let page = deliveries.list(&filter, PageRequest::first(10)).await;
        page.unwrap().items
    }

    /// What the tries of one delivery to `url` failed with, to the last.
    async fn failures(&self, url: EndpointUrl) -> Vec<TransportErrorKind> {
        self.smuggle(url).await;
        let (delivery, attempts) = self.deliver(ALL_TRIES).await;
        let kinds: Vec<_> = attempts.iter().filter_map(failed_with).collect();
        if let Some(last) = kinds.last() {
            assert_eq!(kinds.len(), attempts.len());
            assert_eq!(delivery.status, DeliveryStatus::Failed);
            assert_eq!(delivery.last_error, Some(Failure::Transport(*last)));
        }
        kinds
    }
}

pub(super) fn failed_with(attempt: &Attempt) -> Option<TransportErrorKind> {
    match attempt.outcome {
        Outcome::Failed(kind) => Some(kind),
        _ => None,
    }
}

/// What a database gives back where somebody has written another URL.
fn kind_of_row_with(url: String) -> Result<(), ErrorKind> {
    let plaintext = Encryption::plaintext();
    let endpoint = endpoint_for("default", EndpointSettings::default());
    let mut row = EndpointRow::seal(&endpoint, &plaintext).unwrap();
    row.url = url;
    row.open(&plaintext).map(drop).map_err(|error| error.kind())
}

/// Always the same answer.
struct Always(Vec<IpAddr>);

#[async_trait]
impl Resolve for Always {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.clone())
    }
}

fn in_words<T>(verdict: Result<T, ManageError>) -> &'static str {
    match verdict {
        Ok(_) => "allow",
        Err(ManageError::UrlNotAllowed(Blocked::Address { .. })) => "block",
        Err(ManageError::UrlNotAllowed(_)) => "reject",
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_url_case_is_judged_when_an_endpoint_is_created_or_changed() {
    for case in cases().url_cases {
        let Ok(url) = case.url().parse::<EndpointUrl>() else {
            assert_eq!(case.verdict, "reject", "{}", case.id);
            let json = serde_json::json!(case.url());
            assert!(serde_json::from_value::<EndpointUrl>(json).is_err());
            assert_eq!(kind_of_row_with(case.url()), Err(ErrorKind::Corrupt));
            continue;
        };
        let world = World::new(case.policy(), ScriptedTransport::default());
        let endpoints = world.dispatcher.endpoints();
        let created = endpoints.create(NewEndpoint::new(url.clone())).await;
        assert_eq!(in_words(created), case.verdict_on_url(), "{}", case.id);

        let harmless = NewEndpoint::new("https://hooks.example.org/in".parse().unwrap());
        let id = endpoints.create(harmless).await.unwrap().id;
        let changed = endpoints.update(id, |it| it.url = url.clone()).await;
        assert_eq!(in_words(changed), case.verdict_on_url(), "{}", case.id);
    }
}

#[tokio::test]
async fn every_refused_url_case_is_refused_at_each_attempt_without_a_connection() {
    let mut refused = 0;
    for case in cases().url_cases {
        let Ok(url) = case.url().parse::<EndpointUrl>() else {
            continue;
        };
        let expected = match case.verdict.as_str() {
            // It would go out to the Internet.
            "allow" => continue,
            "error" => TransportErrorKind::Dns,
            _ => TransportErrorKind::Blocked,
        };
        let guarded = Guarded::builder()
            .policy(case.policy())
            .resolver(Always(case.dns.clone()))
            .guarded();
        let world = World::new(case.policy(), guarded.unwrap());
        let kinds = world.failures(url).await;
        assert_eq!(kinds, [expected; TRIES], "{}", case.id);
        refused += 1;
    }
    assert_eq!(refused, 58);
}

/// The address behind a name is the transport's to judge; the rest is not left to it.
#[tokio::test]
async fn a_transport_of_the_hosts_gets_no_request_to_a_refused_url() {
    for case in cases().url_cases {
        let Ok(url) = case.url().parse::<EndpointUrl>() else {
            continue;
        };
        let transport = ScriptedTransport::default();
        let world = World::new(case.policy(), transport.clone());
        let kinds = world.failures(url).await;
        if case.verdict_on_url() == "allow" {
            assert_eq!(transport.requests().len(), 1, "{}", case.id);
        } else {
            assert_eq!(kinds, [TransportErrorKind::Blocked; TRIES], "{}", case.id);
            assert_eq!(transport.requests().len(), 0, "{}", case.id);
        }
    }
}

#[tokio::test]
async fn every_blocked_address_case_blocks_its_literal_and_a_name_that_leads_there() {
    for case in cases().ip_cases {
        if case.verdict == "allow" {
            continue;
        }
        let literal = match case.ip {
            IpAddr::V4(ip) => format!("https://{ip}/"),
            IpAddr::V6(ip) => format!("https://[{ip}]/"),
        };
        for url in [&literal, "https://hooks.example.com/"] {
            let guarded = Guarded::builder().resolver(Always(vec![case.ip]));
            let world = World::new(NetworkPolicy::default(), guarded.guarded().unwrap());
            let kinds = world.failures(url.parse().unwrap()).await;
            assert_eq!(kinds, [TransportErrorKind::Blocked; TRIES], "{url}");
        }
    }
}
