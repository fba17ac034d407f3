//! The checks of a store's catalogue of event types, which are in its list.

use uuid::Uuid;

use super::Harness;
use super::checks::{PAGE, T0, seconds};
use crate::catalogue::{CatalogueEntry, Schemas};
use crate::event::EventType;
use crate::store::Store;
use crate::tenant::PageRequest;

/// What no version is.
const UNKNOWN: i64 = -1;

fn entry(id: u128, name: &str, schema: Option<&str>) -> CatalogueEntry {
    CatalogueEntry {
        id: Uuid::from_u128(id),
        name: EventType::new(name).expect("a valid name"),
        description: "What \"it\" means: 🦀".to_owned(),
        schema: schema.map(Into::into),
        example: Some(r#"{ "b":1, "a":"\u0000" }"#.into()),
        created_at: T0,
        updated_at: T0,
    }
}

async fn put<S: Store>(store: &S, entry: &CatalogueEntry) -> CatalogueEntry {
    let put = store.put_event_type(entry).await;
    put.expect("an entry is stored")
}

async fn get<S: Store>(store: &S, name: &str) -> Option<CatalogueEntry> {
    let name = EventType::new(name).expect("a valid name");
    store.event_type(&name).await.expect("entries are read")
}

/// The schemas, of which there are others than at the version `known`.
async fn schemas<S: Store>(store: &S, known: i64) -> Schemas {
    let changed = store.schemas(known).await.expect("schemas are read");
    let mut schemas = changed.expect("there is another version");
    assert_ne!(schemas.version, known);
    schemas.schemas.sort();
    schemas
}

fn named(schemas: &[(&str, &str)]) -> Vec<(EventType, std::sync::Arc<str>)> {
    let named = schemas.iter().map(|(name, text)| {
        let name = EventType::new(name).expect("a valid name");
        (name, (*text).into())
    });
    named.collect()
}

pub(super) async fn event_type_comes_back_as_it_was_put<H: Harness>(harness: H) {
    let store = harness.store();
    assert_eq!(get(store, "a").await, None);
    let whole = entry(1, "a", Some(r#"{ "type" :"object", "$comment":"ä" }"#));
    let bare = CatalogueEntry {
        description: String::new(),
        schema: None,
        example: None,
        ..entry(2, "A", None)
    };
    for entry in [&whole, &bare] {
        assert_eq!(put(store, entry).await, *entry);
    }
    assert_eq!(get(store, "a").await, Some(whole));
    assert_eq!(
        get(store, "A").await,
        Some(bare),
        "names are told apart by case"
    );
}

pub(super) async fn event_type_that_is_put_again_is_replaced<H: Harness>(harness: H) {
    let store = harness.store();
    put(store, &entry(1, "a", Some("{}"))).await;
    put(store, &entry(2, "b", None)).await;
    let later = CatalogueEntry {
        description: "other".to_owned(),
        example: None,
        created_at: T0 + seconds(5),
        updated_at: T0 + seconds(5),
        ..entry(3, "a", None)
    };
    let replaced = CatalogueEntry {
        id: Uuid::from_u128(1),
        created_at: T0,
        ..later.clone()
    };
    assert_eq!(put(store, &later).await, replaced);
    assert_eq!(get(store, "a").await, Some(replaced));
    let page = store.event_types(PAGE).await.expect("entries are read");
    assert_eq!(page.items.len(), 2);
}

pub(super) async fn event_types_are_paged_newest_first<H: Harness>(harness: H) {
    let store = harness.store();
    for (id, name) in [(3, "c"), (1, "z"), (5, "e"), (2, "b"), (4, "a")] {
        put(store, &entry(id, name, Some("{}"))).await;
    }
    let (mut found, mut page) = (Vec::new(), PageRequest::first(2));
    loop {
        let part = store.event_types(page).await.expect("entries are read");
        assert!(part.items.len() <= 2);
        found.extend(part.items.iter().map(|entry| entry.id.as_u128()));
        match part.next {
            None => break,
            next => page.before = next,
        }
    }
    assert_eq!(found, [5, 4, 3, 2, 1]);
}

pub(super) async fn schemas_are_told_once_for_each_version<H: Harness>(harness: H) {
    let store = harness.store();
    let empty = schemas(store, UNKNOWN).await;
    assert_eq!(empty, Schemas::default());
    assert_eq!(store.schemas(0).await.expect("reads"), None);

    put(store, &entry(1, "a", Some(r#"{"type":"object"}"#))).await;
    put(store, &entry(2, "b", None)).await;
    put(store, &entry(3, "c", Some("{}"))).await;
    let first = schemas(store, empty.version).await;
    let both = named(&[("a", r#"{"type":"object"}"#), ("c", "{}")]);
    assert_eq!(first.schemas, both);
    assert!(first.version > empty.version);
    assert_eq!(store.schemas(first.version).await.expect("reads"), None);
    assert_eq!(schemas(store, UNKNOWN).await, first);

    put(store, &entry(4, "a", None)).await;
    let second = schemas(store, first.version).await;
    assert_eq!(second.schemas, named(&[("c", "{}")]));
    put(store, &entry(5, "c", Some("[]"))).await;
    let third = schemas(store, second.version).await;
    assert_eq!(third.schemas, named(&[("c", "[]")]));
    assert!(first.version < second.version && second.version < third.version);
}
