//! What the engine tells `tracing`, and how that hangs together where a tracer is attached.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use webhook_core::testing::{ManualClock, ScriptedTransport, fast_forward};
use webhook_core::{
    Dispatcher, MemoryStore, NewEndpoint, NewEvent, Propagation, Tenant, TraceParent,
    TransportErrorKind,
};

use crate::{DAY, event};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

thread_local! {
    /// The places of the spans that are entered.
    static ENTERED: RefCell<Vec<TraceParent>> = const { RefCell::new(Vec::new()) };
}

/// Which spans anybody wants to hear of is known for the whole process. While the subscribers of other tests' threads come
/// and go, that would be nobody now and then. This one always does, of all.
static LISTENS: LazyLock<Dispatch> =
    LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

fn current() -> Option<TraceParent> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

/// A tracer: it gives each span a place in a trace, and keeps all of them.
#[derive(Clone, Default)]
struct Tracer(Arc<Mutex<Vec<Seen>>>);

#[derive(Clone)]
struct Seen {
    name: &'static str,
    target: &'static str,
    place: TraceParent,
    parent: Option<TraceParent>,
    fields: BTreeMap<&'static str, String>,
}

impl Tracer {
    /// Hears of spans up to this level, on this thread.
    fn listen(&self, level: LevelFilter) -> DefaultGuard {
        LazyLock::force(&LISTENS);
        let layer = self.clone().with_filter(level);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
    }

    fn named(&self, name: &str) -> Vec<Seen> {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|it| it.name == name).cloned().collect()
    }

    fn place_of<S: Subscriber + for<'a> LookupSpan<'a>>(
        id: &Id,
        context: &Context<'_, S>,
    ) -> TraceParent {
        let span = context.span(id).unwrap();
        *span.extensions().get::<TraceParent>().unwrap()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Tracer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut seen = self.0.lock().unwrap();
        let number = seen.len() as u64 + 1;
        let parent = current();
        let trace = parent.map_or(u128::from(number).to_be_bytes(), |it| it.trace_id());
        let place = TraceParent::new(trace, number.to_be_bytes(), 1).unwrap();
        let mut fields = Fields(BTreeMap::new());
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(place);
        seen.push(Seen {
            name: attributes.metadata().name(),
            target: attributes.metadata().target(),
            place,
            parent,
            fields: fields.0,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let place = Self::place_of(id, &context);
        let mut fields = Fields(BTreeMap::new());
        values.record(&mut fields);
        let mut seen = self.0.lock().unwrap();
        let span = seen.iter_mut().find(|it| it.place == place).unwrap();
        span.fields.extend(fields.0);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let place = Self::place_of(id, &context);
        ENTERED.with_borrow_mut(|entered| entered.push(place));
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        ENTERED.with_borrow_mut(Vec::pop);
    }
}

impl Propagation for Tracer {
    fn begin_in(&self, parent: TraceParent, begin: &mut dyn FnMut()) {
        ENTERED.with_borrow_mut(|entered| entered.push(parent));
        begin();
        ENTERED.with_borrow_mut(Vec::pop);
    }

    fn current(&self) -> Option<TraceParent> {
        current()
    }
}

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

struct Traced {
    dispatcher: Dispatcher<MemoryStore>,
    clock: ManualClock,
    receiver: ScriptedTransport,
    tracer: Tracer,
}

impl Traced {
    /// An engine whose spans a tracer knows, with one endpoint.
    async fn new(receiver: ScriptedTransport) -> Self {
        let (tracer, clock) = (Tracer::default(), ManualClock::default());
        let dispatcher = Dispatcher::builder(MemoryStore::new())
            .transport(receiver.clone())
            .clock(clock.clone())
            .propagation(tracer.clone())
            .seed(1)
            .build()
            .unwrap();
        let url = "https://hooks.example.com:8443/hush?token=hush";
        let url = url.parse().unwrap();
        let endpoint = NewEndpoint::new(url);
        dispatcher.endpoints().create(endpoint).await.unwrap();
        Self {
            dispatcher,
            clock,
            receiver,
            tracer,
        }
    }

    async fn deliver(&self) {
        let all = fast_forward(&self.dispatcher, &self.clock, DAY);
        all.await.unwrap();
    }

    /// What the receiver was told of its place.
    fn told(&self) -> Vec<String> {
        let sent = self.receiver.requests();
        let told = sent.iter().map(|it| it.headers["traceparent"].to_str());
        told.map(|it| it.unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn each_attempt_is_a_child_of_the_span_that_enqueued_and_its_receiver_of_the_attempt() {
    let world = Traced::new(ScriptedTransport::new([503, 200])).await;
    let _listening = world.tracer.listen(LevelFilter::INFO);
    let parent: TraceParent = PARENT.parse().unwrap();
    let traced = event().traceparent(parent);
    world.dispatcher.enqueue(traced).await.unwrap();
    world.deliver().await;

    let enqueued = world.tracer.named("webhook.enqueue");
    assert_eq!(enqueued.len(), 1);
    assert_eq!(enqueued[0].parent, Some(parent));
    assert_eq!(enqueued[0].place.trace_id(), parent.trace_id());
    let attempts = world.tracer.named("webhook.attempt");
    assert_eq!(attempts.len(), 2);
    for attempt in &attempts {
        assert_eq!(attempt.parent, Some(enqueued[0].place));
    }
    let places = attempts.iter().map(|it| it.place.to_string());
    assert_eq!(world.told(), places.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_propagation_that_panics_costs_the_trace_and_no_delivery() {
    struct Broken;
    impl Propagation for Broken {
        fn begin_in(&self, _: TraceParent, _: &mut dyn FnMut()) {
            panic!("a defect")
        }

        fn current(&self) -> Option<TraceParent> {
            panic!("a defect")
        }
    }
    let _listening = Tracer::default().listen(LevelFilter::INFO);
    let receiver = ScriptedTransport::default();
    let dispatcher = Dispatcher::builder(MemoryStore::new())
        .transport(receiver.clone())
        .propagation(Broken)
        .build()
        .unwrap();
    let endpoint = NewEndpoint::new("https://hooks.example.com/in".parse().unwrap());
    dispatcher.endpoints().create(endpoint).await.unwrap();
    let traced = event().traceparent(PARENT.parse().unwrap());
    dispatcher.enqueue(traced).await.unwrap();
    dispatcher.step().await.unwrap();
    let sent = receiver.requests().remove(0);
    assert_eq!(sent.headers["traceparent"], PARENT);
}

#[tokio::test]
async fn an_event_without_a_trace_belongs_to_that_of_the_hosts_span() {
    let world = Traced::new(ScriptedTransport::default()).await;
    let _listening = world.tracer.listen(LevelFilter::INFO);
    let host = tracing::info_span!("host");
    let inside = tracing::Instrument::instrument(world.dispatcher.enqueue(event()), host);
    inside.await.unwrap();
    world.deliver().await;
    let host = world.tracer.named("host").remove(0);
    let enqueued = world.tracer.named("webhook.enqueue").remove(0);
    assert_eq!(enqueued.parent, Some(host.place));
    let attempt = world.tracer.named("webhook.attempt").remove(0);
    assert_eq!(attempt.parent, Some(enqueued.place));
    assert_eq!(world.told(), [attempt.place.to_string()]);
}

#[tokio::test]
async fn a_span_of_the_events_own_trace_is_its_nearer_parent() {
    let world = Traced::new(ScriptedTransport::default()).await;
    let _listening = world.tracer.listen(LevelFilter::INFO);
    let parent: TraceParent = PARENT.parse().unwrap();
    let mut host = None;
    let begin = &mut || host = Some(tracing::info_span!("host"));
    world.tracer.begin_in(parent, begin);
    let enqueued = world.dispatcher.enqueue(event().traceparent(parent));
    let enqueued = tracing::Instrument::instrument(enqueued, host.unwrap());
    enqueued.await.unwrap();
    let host = world.tracer.named("host").remove(0);
    let enqueued = world.tracer.named("webhook.enqueue").remove(0);
    assert_eq!(enqueued.parent, Some(host.place));
}

#[tokio::test]
async fn events_of_a_batch_keep_traces_of_their_own() {
    let world = Traced::new(ScriptedTransport::default()).await;
    let _listening = world.tracer.listen(LevelFilter::INFO);
    let other = PARENT.replace("4bf9", "aaaa");
    let events = [Some(PARENT), None, Some(&other)].map(|parent| match parent {
        Some(parent) => event().traceparent(parent.parse().unwrap()),
        None => event(),
    });
    let ids = world.dispatcher.enqueue_batch(events.into()).await.unwrap();
    let span = world.tracer.named("webhook.enqueue").remove(0);
    assert_eq!(span.fields["webhook.event.count"], "3");
    let listed: Vec<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(span.fields["webhook.event.id"], listed.join(","));
    let expected = [span.place, span.place, other.parse().unwrap()];
    for (id, expected) in ids.into_iter().zip(expected) {
        let stored = world.dispatcher.events().get(id).await.unwrap();
        assert_eq!(stored.traceparent, Some(expected));
    }
}

#[tokio::test]
async fn spans_tell_what_was_tried_and_what_came_of_it() {
    let receiver = ScriptedTransport::default();
    receiver.push(503);
    receiver.push(TransportErrorKind::Timeout);
    let world = Traced::new(receiver).await;
    let _listening = world.tracer.listen(LevelFilter::INFO);
    let id = world.dispatcher.enqueue(event()).await.unwrap().to_string();
    world.deliver().await;

    let enqueued = world.tracer.named("webhook.enqueue").remove(0);
    let expected = [
        ("otel.kind", "producer"),
        ("webhook.tenant", "default"),
        ("webhook.event.count", "1"),
        ("webhook.event.id", &*id),
    ];
    assert_eq!(enqueued.fields, BTreeMap::from(expected.map(owned)));
    let attempts = world.tracer.named("webhook.attempt");
    assert_eq!(attempts.len(), 3);
    let ends: [&[(&str, &str)]; 3] = [
        &[
            ("webhook.attempt.number", "1"),
            ("webhook.attempt.outcome", "server_error"),
            ("http.response.status_code", "503"),
            ("error.type", "503"),
            ("otel.status_code", "ERROR"),
        ],
        &[
            ("webhook.attempt.number", "2"),
            ("webhook.attempt.outcome", "timeout"),
            ("error.type", "timeout"),
            ("otel.status_code", "ERROR"),
        ],
        &[
            ("webhook.attempt.number", "3"),
            ("webhook.attempt.outcome", "succeeded"),
            ("http.response.status_code", "200"),
        ],
    ];
    let delivery = &crate::deliveries(&world.dispatcher.erase()).await[0];
    let (delivery, endpoint) = (delivery.id.to_string(), delivery.endpoint_id.to_string());
    for (attempt, end) in attempts.iter().zip(ends) {
        let all = [
            ("otel.kind", "client"),
            ("webhook.tenant", "default"),
            ("webhook.event.id", &*id),
            ("webhook.event.type", "order.paid"),
            ("webhook.delivery.id", &*delivery),
            ("webhook.endpoint.id", &*endpoint),
            ("http.request.method", "POST"),
            ("server.address", "hooks.example.com"),
            ("server.port", "8443"),
        ];
        let expected = all.iter().chain(end).copied().map(owned);
        assert_eq!(attempt.fields, expected.collect());
        assert_eq!(attempt.target, "webhook_core::trace");
    }
}

fn owned((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

#[tokio::test]
async fn a_refused_event_says_why_in_its_span() {
    let world = Traced::new(ScriptedTransport::default()).await;
    let _listening = world.tracer.listen(LevelFilter::INFO);
    let too_large = NewEvent::raw("a", vec![b' '; 300_000]).unwrap();
    let too_large = too_large.tenant(Tenant::new("acme").unwrap());
    world.dispatcher.enqueue(too_large).await.unwrap_err();
    let span = world.tracer.named("webhook.enqueue").remove(0);
    let told = ["webhook.tenant", "error.type", "otel.status_code"];
    let told = told.map(|name| &*span.fields[name]);
    assert_eq!(told, ["acme", "invalid", "ERROR"]);
}

#[tokio::test]
async fn claims_and_records_have_spans_for_those_who_debug() {
    for (level, expected) in [(LevelFilter::INFO, 0), (LevelFilter::DEBUG, 1)] {
        let world = Traced::new(ScriptedTransport::default()).await;
        world.dispatcher.enqueue(event()).await.unwrap();
        let _listening = world.tracer.listen(level);
        world.dispatcher.step().await.unwrap();
        let claims = world.tracer.named("webhook.claim");
        let counts = claims.iter().map(|it| &*it.fields["webhook.claim.count"]);
        assert_eq!(counts.collect::<Vec<_>>(), vec!["1"; expected]);
        let records = world.tracer.named("webhook.record");
        let counts = records.iter().map(|it| &*it.fields["webhook.record.count"]);
        assert_eq!(counts.collect::<Vec<_>>(), vec!["1"; expected]);
    }
}

#[tokio::test]
async fn where_nobody_listens_the_trace_is_passed_on_as_it_is() {
    let world = Traced::new(ScriptedTransport::new([503, 200])).await;
    let _listening = world.tracer.listen(LevelFilter::OFF);
    let traced = event().traceparent(PARENT.parse().unwrap());
    world.dispatcher.enqueue(traced).await.unwrap();
    world.deliver().await;
    assert_eq!(world.told(), [PARENT, PARENT]);
    assert!(world.tracer.0.lock().unwrap().is_empty());
}
