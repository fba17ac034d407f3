//! The check that tenants are walls, which is in a store's list.

use uuid::Uuid;

use super::audit::{append_entry, audit_entry};
use super::checks::{PAGE, Scene, T0, at};
use super::health::BEGINS;
use super::replays::{dead_letters, start};
use super::stats::{append, everything, row};
use super::{Harness, event_for};
use crate::audit::AuditFilter;
use crate::endpoint::EndpointSettings;
use crate::replay::Replay;
use crate::stats::Rollup;
use crate::store::{Changed, DeliveryFilter, EndpointFilter, EventFilter, Store};
use crate::tenant::{Scope, Tenant};

/// The trait as it is written: what of it takes a scope.
const TRAIT: &str = include_str!("../../store.rs");

pub(super) async fn every_call_with_a_scope_is_a_wall<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let scope = |name| Scope::Tenant(Tenant::new(name).expect("valid"));
    let rows = Rows::insert(&scene, &scope("own")).await;
    let before = rows.as_they_are(&scene).await;

    let foreign = rows.reached_from(scene.store(), &scope("foreign")).await;
    let mut called: Vec<_> = foreign.iter().map(|(call, _)| *call).collect();
    called.sort_unstable();
    assert_eq!(called, calls_with_a_scope(), "each call is tried");
    for (call, reached) in foreign {
        assert!(!reached, "{call} reaches another tenant's rows");
    }
    assert_eq!(rows.as_they_are(&scene).await, before);

    for (call, reached) in rows.reached_from(scene.store(), &scope("own")).await {
        assert!(reached, "{call} does not reach its own tenant's rows");
    }
}

fn calls_with_a_scope() -> Vec<&'static str> {
    let body = TRAIT.split_once("pub trait Store:").expect("is there").1;
    let body = body.split_once("\n}\n").expect("it ends").0;
    let calls = body.split("async fn ").skip(1);
    let mut scoped: Vec<_> = calls
        .filter_map(|call| {
            let (name, rest) = call.split_once('(')?;
            let arguments = rest.split_once("->")?.0;
            arguments.contains("scope: &Scope").then_some(name)
        })
        .collect();
    scoped.sort_unstable();
    scoped
}

/// One of each, all of one tenant; the delivery is a dead letter.
struct Rows {
    endpoint: Uuid,
    event: Uuid,
    delivery: Uuid,
    replay: Replay,
}

impl Rows {
    async fn insert<H: Harness>(scene: &Scene<H>, own: &Scope) -> Self {
        let endpoint = scene.endpoint("own", EndpointSettings::default()).await.id;
        let event = event_for("own", "a", "1", T0);
        let jobs = scene.insert(std::slice::from_ref(&event), at(0)).await;
        let lease = scene.take(at(0)).await;
        scene.change(lease, BEGINS, at(0)).await;
        append(
            scene.store(),
            &[row(T0, "own", Some(endpoint.as_u128()), 1)],
        )
        .await;
        append_entry(scene.store(), &audit_entry(1, Some("own"))).await;
        Self {
            endpoint,
            event: event.id,
            delivery: jobs[0].delivery,
            replay: start(scene, own, &dead_letters(), 1).await,
        }
    }

    /// For each call, whether it found or changed something of ours. Those that change come last.
    async fn reached_from<S: Store>(&self, store: &S, scope: &Scope) -> Vec<(&'static str, bool)> {
        let mut reached = self.read_from(store, scope).await;
        reached.extend(self.changed_from(store, scope).await);
        reached
    }

    async fn read_from<S: Store>(&self, store: &S, scope: &Scope) -> Vec<(&'static str, bool)> {
        let (events, deliveries) = (EventFilter::default(), DeliveryFilter::default());
        let endpoint = store.endpoint(scope, self.endpoint).await.expect("reads");
        let endpoints = store
            .endpoints(scope, &EndpointFilter::default(), PAGE)
            .await
            .expect("reads");
        let health = store.health(scope, &[self.endpoint], at(2)).await;
        let event = store.event(scope, self.event).await.expect("reads");
        let all_events = store.events(scope, &events, PAGE).await.expect("reads");
        let delivery = store.delivery(scope, self.delivery).await.expect("reads");
        let all_deliveries = store.deliveries(scope, &deliveries, PAGE).await;
        let attempts = store.attempts(scope, self.delivery).await.expect("reads");
        let replay = store.replay(scope, self.replay.id).await.expect("reads");
        let replays = store.replays(scope, PAGE).await.expect("reads");
        let selection = &self.replay.selection;
        let scan = store.scan_replay(scope, selection, None, 10, at(2)).await;
        let mut query = everything();
        query.endpoint = Some(self.endpoint);
        let stats = store.stats(scope, &query).await.expect("reads");
        let backlog = store.backlog(scope, self.endpoint, at(2)).await;
        let audit = store.audit(scope, &AuditFilter::default(), PAGE).await;
        vec![
            ("backlog", backlog.expect("reads").is_some()),
            ("audit", !audit.expect("reads").items.is_empty()),
            ("endpoint", endpoint.is_some()),
            ("endpoints", !endpoints.items.is_empty()),
            ("health", !health.expect("reads").is_empty()),
            ("event", event.is_some()),
            ("events", !all_events.items.is_empty()),
            ("delivery", delivery.is_some()),
            (
                "deliveries",
                !all_deliveries.expect("reads").items.is_empty(),
            ),
            ("attempts", !attempts.is_empty()),
            ("replay", replay.is_some()),
            ("replays", !replays.items.is_empty()),
            ("scan_replay", scan.expect("reads").wanted > 0),
            ("stats", stats != Rollup::default()),
        ]
    }

    async fn changed_from<S: Store>(&self, store: &S, scope: &Scope) -> Vec<(&'static str, bool)> {
        let now = at(3);
        let replayed = store.replay_delivery(scope, self.delivery, now).await;
        let replayed_event = store.replay_event(scope, self.event, now).await;
        let cancelled = store.cancel_delivery(scope, self.delivery, now).await;
        let replay_cancelled = store.cancel_replay(scope, self.replay.id, now).await;
        let recovered = store.recover_endpoint(scope, self.endpoint).await;
        let deleted = store.delete_endpoint(scope, self.endpoint, now).await;
        vec![
            ("replay_delivery", is_known(&replayed.expect("answers"))),
            ("replay_event", is_known(&replayed_event.expect("answers"))),
            ("cancel_delivery", is_known(&cancelled.expect("answers"))),
            (
                "cancel_replay",
                is_known(&replay_cancelled.expect("answers")),
            ),
            ("recover_endpoint", recovered.expect("answers")),
            ("delete_endpoint", deleted.expect("answers")),
        ]
    }

    /// All that somebody could have changed.
    async fn as_they_are<H: Harness>(&self, scene: &Scene<H>) -> impl PartialEq + std::fmt::Debug {
        let (store, all) = (scene.store(), &Scope::All);
        let filter = DeliveryFilter::default();
        let endpoint = store.endpoint(all, self.endpoint).await.expect("reads");
        let replay = store.replay(all, self.replay.id).await.expect("reads");
        let deliveries = store.deliveries(all, &filter, PAGE).await.expect("reads");
        let version = endpoint.map(|it| (it.version, it.state));
        let health = store.health(all, &[self.endpoint], at(2)).await;
        (version, health.expect("reads"), replay, deliveries.items)
    }
}

fn is_known<T: PartialEq>(answer: &Changed<T>) -> bool {
    *answer != Changed::NotFound
}
