//! The suite of a [`TxStore`](crate::TxStore).

use super::suite;

/// The checks of a store's transactions: one list for the wrappers and for a backend's tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __tx_checks {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! {
            $($args)*
            commit_delivers,
            nothing_is_seen_before_the_commit,
            rollback_leaves_nothing,
            key_of_a_committed_event_is_known_in_a_transaction,
            key_of_the_same_transaction_is_known,
            schemas_are_read_in_a_transaction,
        }
    };
}

/// A backend's `#[test]`s for its transactions. The argument is a [`TxHarness`](crate::testing::TxHarness).
#[macro_export]
macro_rules! tx_conformance {
    ($harness:ty) => {
        $crate::__tx_checks! { [$crate::__conformance_tests] tx, $harness, }
    };
}

__tx_checks! { [suite] TxHarness, }

mod checks {
    use super::super::TxHarness;
    use super::super::checks::*;
    use crate::catalogue::NewCatalogueEntry;
    use crate::endpoint::EndpointSettings;
    use crate::event::{Event, EventType, NewEvent};
    use crate::store::{InsertOptions, Inserted, Insertion, OnConflict, Store, TxStore};
    use crate::testing::event_for;

    async fn insert_in<H: TxHarness>(scene: &Scene<H>, tx: &mut H::Tx, event: &Event) -> Insertion {
        let events = std::slice::from_ref(event);
        let inserted = scene
            .store()
            .insert_events_in(H::connection(tx), events, at(0))
            .await;
        inserted.expect("events are stored")
    }

    pub(super) async fn commit_delivers<H: TxHarness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let event = event_for("default", "a", "1", T0);
        let mut tx = scene.harness.begin().await;
        let insertion = insert_in(&scene, &mut tx, &event).await;
        H::commit(tx).await;
        assert_eq!(insertion.events, [Inserted::New]);
        let ids: Vec<_> = insertion.jobs.iter().map(|job| job.delivery).collect();
        let jobs = scene.store().jobs(&ids).await.expect("reads");
        scene.queue.push(&jobs, at(0)).await.expect("pushes");
        assert_eq!(scene.claim(10, at(0)).await.len(), 1);
    }

    pub(super) async fn nothing_is_seen_before_the_commit<H: TxHarness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let event = event_for("default", "a", "1", T0);
        let mut tx = scene.harness.begin().await;
        let insertion = insert_in(&scene, &mut tx, &event).await;
        let ids: Vec<_> = insertion.jobs.iter().map(|job| job.delivery).collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(scene.store().jobs(&ids).await.expect("reads"), []);
        assert_eq!(
            scene.store().event(&ALL, event.id).await.expect("reads"),
            None
        );
        drop(tx);
    }

    pub(super) async fn rollback_leaves_nothing<H: TxHarness>(harness: H) {
        let scene = Scene::new(harness);
        scene.lane(EndpointSettings::default()).await;
        let event = event_for("default", "a", "1", T0);
        let mut tx = scene.harness.begin().await;
        insert_in(&scene, &mut tx, &event).await;
        drop(tx);
        assert_eq!(scene.claim(10, at(0)).await, []);
        assert_eq!(
            scene.store().event(&ALL, event.id).await.expect("reads"),
            None
        );
    }

    pub(super) async fn key_of_a_committed_event_is_known_in_a_transaction<H: TxHarness>(
        harness: H,
    ) {
        let scene = Scene::new(harness);
        let stamped = |id| {
            let event = NewEvent::data("a", "1").and_then(|event| event.idempotency_key("k"));
            event.expect("valid").stamp(uuid::Uuid::from_u128(id), T0)
        };
        let first = [stamped(1)];
        scene
            .store()
            .insert_events(&first, &InsertOptions::new(OnConflict::Skip), at(0))
            .await
            .expect("stores");
        let mut tx = scene.harness.begin().await;
        let again = insert_in(&scene, &mut tx, &stamped(2)).await;
        assert_eq!(again.events, [Inserted::Existing(first[0].id)]);
        H::commit(tx).await;
    }

    pub(super) async fn key_of_the_same_transaction_is_known<H: TxHarness>(harness: H) {
        let scene = Scene::new(harness);
        let stamped = |id, data: &'static str| {
            let event = NewEvent::data("a", data).and_then(|event| event.idempotency_key("k"));
            event.expect("valid").stamp(uuid::Uuid::from_u128(id), T0)
        };
        let mut tx = scene.harness.begin().await;
        let first = stamped(1, "1");
        insert_in(&scene, &mut tx, &first).await;
        let same = insert_in(&scene, &mut tx, &stamped(2, "1")).await;
        assert_eq!(same.events, [Inserted::Existing(first.id)]);
        let other = insert_in(&scene, &mut tx, &stamped(3, "2")).await;
        assert_eq!(other.events, [Inserted::Conflict(first.id)]);
        H::commit(tx).await;
        assert!(
            scene
                .store()
                .event(&ALL, first.id)
                .await
                .expect("reads")
                .is_some()
        );
    }

    pub(super) async fn schemas_are_read_in_a_transaction<H: TxHarness>(harness: H) {
        let store = harness.store();
        let new = NewCatalogueEntry::new(EventType::new("a").expect("valid"));
        let mut entry = new.entry(uuid::Uuid::nil(), T0).expect("valid");
        entry.schema = Some("{}".into());
        store.put_event_type(&entry).await.expect("stored");
        let mut tx = harness.begin().await;
        let connection = H::connection(&mut tx);
        let found = store.schemas_in(connection, 0).await.expect("read");
        let found = found.expect("another version");
        assert_eq!(found.schemas, [(entry.name, "{}".into())]);
        let again = store.schemas_in(connection, found.version).await;
        assert_eq!(again.expect("read"), None);
        H::commit(tx).await;
    }
}
