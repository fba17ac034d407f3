//! The suite of a store that seals secrets.

use super::suite;

/// The checks of a store that seals secrets: one list for the wrappers and for a backend's tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __encryption_checks {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! {
            $($args)*
            sealed_endpoint_comes_back_as_it_was_given,
            plaintext_stays_readable_and_is_sealed_by_the_next_change,
            secrets_of_another_endpoint_or_tenant_are_refused,
            deliveries_wait_for_a_key_and_others_do_not,
            sealed_endpoint_gets_what_it_accepts,
            lists_go_on_without_sealed_endpoints,
            rekey_lets_an_older_key_go,
            rekey_goes_page_by_page,
            rekey_leaves_what_cannot_be_opened,
            rekey_leaves_what_others_change_meanwhile,
        }
    };
}

/// A backend's `#[test]`s for what it seals. The argument is a [`KeyHarness`](crate::testing::KeyHarness).
#[macro_export]
macro_rules! encryption_conformance {
    ($harness:ty) => {
        $crate::__encryption_checks! { [$crate::__conformance_tests] encryption, $harness, }
    };
}

__encryption_checks! { [suite] KeyHarness, }

mod checks {
    use std::sync::Arc;

    use tokio::sync::Notify;
    use uuid::Uuid;

    use super::super::checks::*;
    use super::super::{KeyHarness, endpoint_for, event_for};
    use crate::encryption::{EncryptionKey, KeyId, KeyProvider, StaticKeys};
    use crate::endpoint::{Endpoint, EndpointSettings};
    use crate::error::ErrorKind;
    use crate::headers::CustomHeaders;
    use crate::queue::{ClaimOptions, Job, Settle};
    use crate::signing::Secret;
    use crate::store::{EndpointFilter, InsertOptions, OnConflict, Rekeyed, Store, Verdict};
    use crate::tenant::PageRequest;

    fn keys(current: &EncryptionKey, older: &[&EncryptionKey]) -> Option<Arc<dyn KeyProvider>> {
        let keys = older
            .iter()
            .try_fold(StaticKeys::new(current.clone()), |all, key| {
                all.older((*key).clone())
            });
        Some(Arc::new(keys.expect("no key twice")))
    }

    /// With something secret of each kind.
    fn secretive(tenant: &str) -> Endpoint {
        let headers = CustomHeaders::new([("x-plain", "1")], [("x-secret", "canary \"value\"")]);
        let settings = EndpointSettings {
            headers: headers.expect("valid headers"),
            ..EndpointSettings::default()
        };
        let mut endpoint = endpoint_for(tenant, settings);
        let url = "https://hooks.example.com/in?token=canary".parse();
        endpoint.url = url.expect("a valid URL");
        endpoint
    }

    async fn stored(store: &impl Store, endpoint: Endpoint) -> Endpoint {
        let inserted = store.insert_endpoint(&endpoint, usize::MAX).await;
        inserted.expect("an endpoint is stored");
        endpoint
    }

    async fn assert_opens(store: &impl Store, endpoint: &Endpoint) {
        let read = store.endpoint(&ALL, endpoint.id).await;
        let read = read.expect("it opens").expect("it is there");
        assert_eq!(
            (read.secret(), &read.url),
            (endpoint.secret(), &endpoint.url)
        );
        assert_eq!(read.settings, endpoint.settings);
        assert_eq!(read.version, endpoint.version);
        assert_eq!(read.updated_at, endpoint.updated_at);
    }

    async fn assert_sealed(store: &impl Store, id: Uuid) {
        let read = store.endpoint(&ALL, id).await;
        assert_eq!(
            read.expect_err("it does not open").kind(),
            ErrorKind::Sealed
        );
    }

    async fn shows_canary(harness: &impl KeyHarness, endpoint: &Endpoint) -> bool {
        let stored = harness.secrets(endpoint.id).await;
        String::from_utf8_lossy(&stored).contains("canary")
    }

    async fn enqueue(store: &impl Store, event_type: &str) -> Vec<Job> {
        let events = [event_for("default", event_type, "1", T0)];
        let options = InsertOptions::new(OnConflict::Skip);
        let inserted = store.insert_events(&events, &options, at(0)).await;
        inserted.expect("events are stored").jobs
    }

    /// Claims everything, and returns the lanes that may be attempted and those that wait for a key. All goes back.
    async fn verdicts(store: &impl Store, seconds: u64) -> (Vec<Uuid>, Vec<Uuid>) {
        let queue = store.queue().expect("its deliveries are its queue");
        let options = ClaimOptions::new(100, LEASE);
        let claimed = queue.claim(options, at(seconds)).await;
        let leases = claimed.expect("jobs are claimed").leases;
        let loaded = store.load(&leases, at(seconds)).await;
        let (mut run, mut sealed) = (Vec::new(), Vec::new());
        for loaded in loaded.expect("claims are loaded") {
            match loaded.verdict {
                Verdict::Run(work) => {
                    assert!(work.endpoint.secret().is_some());
                    run.push(loaded.lease.lane);
                }
                Verdict::Sealed(work) => {
                    assert!(work.endpoint.secret().is_none());
                    sealed.push(loaded.lease.lane);
                }
                Verdict::Early(_)
                | Verdict::Held(_)
                | Verdict::Behind(_)
                | Verdict::Ended
                | Verdict::Dead(_) => {
                    panic!("it is due, and live")
                }
            }
            let back = [(loaded.lease, Settle::Unused(self::seconds(0)))];
            let settled = queue.settle(&back, at(seconds)).await;
            settled.expect("it goes back");
        }
        (run, sealed)
    }

    async fn rekey(store: &impl Store) -> Rekeyed {
        store.rekey(PAGE).await.expect("endpoints are sealed anew")
    }

    pub(super) async fn sealed_endpoint_comes_back_as_it_was_given<H: KeyHarness>(harness: H) {
        let key = EncryptionKey::random();
        let store = harness.reopen(keys(&key, &[])).await;
        let mut endpoint = stored(&store, secretive("default")).await;
        assert_opens(&harness.reopen(keys(&key, &[])).await, &endpoint).await;
        assert!(!shows_canary(&harness, &endpoint).await);
        endpoint.version += 1;
        endpoint.settings.description = "changed".into();
        assert!(store.update_endpoint(&endpoint).await.expect("it changes"));
        assert_opens(&store, &endpoint).await;
        assert!(!shows_canary(&harness, &endpoint).await);
    }

    pub(super) async fn plaintext_stays_readable_and_is_sealed_by_the_next_change<H: KeyHarness>(
        harness: H,
    ) {
        let plain = harness.reopen(None).await;
        let mut endpoint = stored(&plain, secretive("default")).await;
        assert!(shows_canary(&harness, &endpoint).await);
        let store = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        assert_opens(&store, &endpoint).await;
        endpoint.version += 1;
        assert!(store.update_endpoint(&endpoint).await.expect("it changes"));
        assert_opens(&store, &endpoint).await;
        assert!(!shows_canary(&harness, &endpoint).await);
        assert_sealed(&plain, endpoint.id).await;
    }

    pub(super) async fn secrets_of_another_endpoint_or_tenant_are_refused<H: KeyHarness>(
        harness: H,
    ) {
        let store = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        let victim = stored(&store, secretive("default")).await;
        let own = harness.secrets(victim.id).await;
        for tenant in ["default", "other"] {
            let other = stored(&store, secretive(tenant)).await;
            let others = harness.secrets(other.id).await;
            harness.set_secrets(victim.id, others).await;
            assert_sealed(&store, victim.id).await;
            assert_opens(&store, &other).await;
        }
        harness.set_secrets(victim.id, own).await;
        assert_opens(&store, &victim).await;
    }

    pub(super) async fn deliveries_wait_for_a_key_and_others_do_not<H: KeyHarness>(harness: H) {
        let (lost, key) = (EncryptionKey::random(), EncryptionKey::random());
        let before = harness.reopen(keys(&lost, &[])).await;
        let sealed = stored(&before, secretive("default")).await.id;
        let store = harness.reopen(keys(&key, &[])).await;
        let open = stored(&store, secretive("default")).await.id;
        enqueue(&store, "a").await;
        for round in 0..3 {
            assert_eq!(verdicts(&store, round).await, (vec![open], vec![sealed]));
        }
        let found = harness.reopen(keys(&key, &[&lost])).await;
        let (run, waiting) = verdicts(&found, 3).await;
        assert_eq!((run.len(), waiting.len()), (2, 0), "the key is back");
    }

    pub(super) async fn sealed_endpoint_gets_what_it_accepts<H: KeyHarness>(harness: H) {
        let before = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        let mut endpoint = secretive("default");
        let pattern = "order.*".parse().expect("a pattern");
        endpoint.settings.event_types = vec![pattern];
        stored(&before, endpoint).await;
        let store = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        assert_eq!(enqueue(&store, "invoice.paid").await, []);
        assert_eq!(enqueue(&store, "order.paid").await.len(), 1);
    }

    pub(super) async fn lists_go_on_without_sealed_endpoints<H: KeyHarness>(harness: H) {
        let before = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        stored(&before, secretive("default")).await;
        let store = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        let open = stored(&store, secretive("default")).await.id;
        let page = store
            .endpoints(&ALL, &EndpointFilter::default(), PAGE)
            .await
            .expect("a page");
        let shown: Vec<_> = page.items.iter().map(|endpoint| endpoint.id).collect();
        assert_eq!(shown, [open]);
    }

    pub(super) async fn rekey_lets_an_older_key_go<H: KeyHarness>(harness: H) {
        let (old, new) = (EncryptionKey::random(), EncryptionKey::random());
        let plain = stored(&harness.reopen(None).await, secretive("default")).await;
        let before = stored(&harness.reopen(keys(&old, &[])).await, secretive("a")).await;
        let store = harness.reopen(keys(&new, &[&old])).await;
        let current = stored(&store, secretive("b")).await;
        let untouched = harness.secrets(current.id).await;
        let done = rekey(&store).await;
        assert_eq!((done.rekeyed, done.changed, done.unopened), (2, 0, 0));
        assert_eq!(harness.secrets(current.id).await, untouched);
        assert_eq!(rekey(&store).await, Rekeyed::default(), "once is enough");
        let store = harness.reopen(keys(&new, &[])).await;
        for endpoint in [plain, before, current] {
            assert_opens(&store, &endpoint).await;
            assert!(!shows_canary(&harness, &endpoint).await);
        }
    }

    pub(super) async fn rekey_goes_page_by_page<H: KeyHarness>(harness: H) {
        let before = harness.reopen(None).await;
        for _ in 0..5 {
            stored(&before, secretive("default")).await;
        }
        let store = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        let (mut page, mut pages) = (PageRequest::first(2), Vec::new());
        loop {
            let done = store.rekey(page).await.expect("a page");
            pages.push(done.rekeyed);
            page.before = done.next;
            if done.next.is_none() {
                break;
            }
        }
        assert_eq!(pages, [2, 2, 1]);
    }

    pub(super) async fn rekey_leaves_what_cannot_be_opened<H: KeyHarness>(harness: H) {
        let lost = EncryptionKey::random();
        let before = harness.reopen(keys(&lost, &[])).await;
        let endpoint = stored(&before, secretive("default")).await;
        let store = harness.reopen(keys(&EncryptionKey::random(), &[])).await;
        let done = rekey(&store).await;
        assert_eq!((done.rekeyed, done.unopened), (0, 1));
        let plain = harness.reopen(None).await;
        assert_eq!(rekey(&plain).await, Rekeyed::default(), "without keys");
        assert_opens(&before, &endpoint).await;
    }

    /// Tells when a key was asked for: then the rows have been read, and none is written.
    struct Telling(StaticKeys, Arc<Notify>);

    impl KeyProvider for Telling {
        fn current(&self) -> EncryptionKey {
            self.1.notify_one();
            self.0.current()
        }

        fn key(&self, id: &KeyId) -> Option<EncryptionKey> {
            self.0.key(id)
        }
    }

    pub(super) async fn rekey_leaves_what_others_change_meanwhile<H: KeyHarness>(harness: H) {
        let before = harness.reopen(None).await;
        // Enough to be at while the other change is made.
        for _ in 0..150 {
            stored(&before, secretive("default")).await;
        }
        let page = before
            .endpoints(&ALL, &EndpointFilter::default(), PAGE)
            .await
            .expect("a page");
        let mut last = page.items.last().expect("an endpoint").clone();
        let (key, told) = (EncryptionKey::random(), Arc::new(Notify::new()));
        let telling = Telling(StaticKeys::new(key), Arc::clone(&told));
        let store = harness.reopen(Some(Arc::new(telling))).await;
        let changing = async {
            told.notified().await;
            last.version += 1;
            let secret = Secret::from_bytes(&[8; 32]).expect("32 bytes are a key");
            last.secrets[0].secret = secret;
            assert!(store.update_endpoint(&last).await.expect("it changes"));
        };
        let (done, ()) = tokio::join!(rekey(&store), changing);
        assert_eq!((done.rekeyed, done.changed), (149, 1));
        assert_opens(&store, &last).await;
    }
}
