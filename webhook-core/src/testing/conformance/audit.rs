//! The checks of the audit log, which are in a store's list.

use uuid::Uuid;

use super::Harness;
use super::checks::{ALL, PAGE, T0, at, seconds};
use crate::audit::{AuditAction, AuditEntry, AuditFilter};
use crate::store::Store;
use crate::tenant::{PageRequest, Scope, Tenant};

pub(super) fn audit_entry(id: u128, tenant: Option<&str>) -> AuditEntry {
    AuditEntry {
        id: Uuid::from_u128(id),
        at: T0,
        actor: "Zoë \"the\" 🦀".to_owned(),
        tenant: tenant.map(|name| Tenant::new(name).expect("valid")),
        action: AuditAction::EndpointUpdate,
        target: "order.paid".to_owned(),
        detail: "url, state: paused".to_owned(),
    }
}

pub(super) async fn append_entry<S: Store>(store: &S, entry: &AuditEntry) {
    store.append_audit(entry).await.expect("an entry is stored");
}

async fn found<S: Store>(store: &S, scope: &Scope, filter: &AuditFilter) -> Vec<u128> {
    let page = store.audit(scope, filter, PAGE).await.expect("reads");
    assert_eq!(page.next, None);
    page.items.iter().map(|one| one.id.as_u128()).collect()
}

pub(super) async fn audit_entry_comes_back_as_it_was_appended_once<H: Harness>(harness: H) {
    let (store, filter) = (harness.store(), AuditFilter::default());
    for (id, action) in (1..).zip(AuditAction::ALL) {
        let entry = AuditEntry {
            action,
            ..audit_entry(id, Some("a"))
        };
        append_entry(store, &entry).await;
        let again = AuditEntry {
            detail: String::new(),
            ..entry.clone()
        };
        append_entry(store, &again).await;
        let page = store.audit(&ALL, &filter, PageRequest::first(1));
        assert_eq!(page.await.expect("reads").items, [entry]);
    }
    let all = found(store, &ALL, &filter).await;
    assert_eq!(all.len(), AuditAction::ALL.len());
}

pub(super) async fn audit_entries_are_seen_in_their_scope<H: Harness>(harness: H) {
    let store = harness.store();
    for (id, tenant) in [(1, Some("a")), (2, None), (3, Some("b")), (4, Some("a"))] {
        append_entry(store, &audit_entry(id, tenant)).await;
    }
    let all = AuditFilter::default();
    let of = |name| Scope::Tenant(Tenant::new(name).expect("valid"));
    assert_eq!(found(store, &ALL, &all).await, [4, 3, 2, 1]);
    assert_eq!(found(store, &of("a"), &all).await, [4, 1]);
    assert_eq!(found(store, &of("b"), &all).await, [3]);
    assert!(found(store, &of("A"), &all).await.is_empty());
}

pub(super) async fn audit_entries_are_found_by_each_filter<H: Harness>(harness: H) {
    let store = harness.store();
    append_entry(store, &audit_entry(1, None)).await;
    let other = AuditEntry {
        at: T0 + seconds(5),
        actor: "Bo".to_owned(),
        action: AuditAction::TenantDelete,
        target: "b".to_owned(),
        ..audit_entry(2, Some("b"))
    };
    append_entry(store, &other).await;
    let text = |text: &str| Some(text.to_owned());
    let by = |actor| AuditFilter {
        actor: text(actor),
        ..AuditFilter::default()
    };
    let to = |target| AuditFilter {
        target: text(target),
        ..AuditFilter::default()
    };
    let within = |since, until| AuditFilter {
        since,
        until,
        ..AuditFilter::default()
    };
    let deletes = AuditFilter {
        action: Some(other.action),
        ..AuditFilter::default()
    };
    for (filter, expected) in [
        (by("Bo"), vec![2]),
        (by("bo"), vec![]),
        (by("\0"), vec![]),
        (deletes, vec![2]),
        (to("b"), vec![2]),
        (to("\0"), vec![]),
        (within(Some(other.at), None), vec![2]),
        (within(None, Some(other.at)), vec![1]),
        (within(Some(T0), None), vec![2, 1]),
    ] {
        assert_eq!(found(store, &ALL, &filter).await, expected, "{filter:?}");
    }
}

pub(super) async fn audit_is_paged_newest_first<H: Harness>(harness: H) {
    let store = harness.store();
    for id in [3, 1, 5, 2, 4] {
        append_entry(store, &audit_entry(id, Some("a"))).await;
    }
    let (mut all, mut page) = (Vec::new(), PageRequest::first(2));
    loop {
        let part = store.audit(&ALL, &AuditFilter::default(), page).await;
        let part = part.expect("reads");
        assert!(part.items.len() <= 2);
        all.extend(part.items.iter().map(|one| one.id.as_u128()));
        match part.next {
            None => break,
            next => page.before = next,
        }
    }
    assert_eq!(all, [5, 4, 3, 2, 1]);
}

pub(super) async fn audit_ends_with_the_retention<H: Harness>(harness: H) {
    let store = harness.store();
    append_entry(store, &audit_entry(1, Some("a"))).await;
    let later = AuditEntry {
        at: T0 + seconds(60),
        ..audit_entry(2, None)
    };
    append_entry(store, &later).await;
    for (now, left) in [(60, vec![2, 1]), (100, vec![2]), (200, vec![])] {
        let maintained = store.maintain(seconds(60), at(now)).await;
        maintained.expect("housekeeping is done");
        let found = found(store, &ALL, &AuditFilter::default()).await;
        assert_eq!(found, left, "after {now} s");
    }
}
