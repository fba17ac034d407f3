//! Rows that cannot be read: from a newer version, or spoiled by hand. Nobody waits for them.

mod common;

use std::time::Duration;

use common::Schema;
use uuid::Uuid;
use webhook_core::testing::{endpoint_for, event_for, run};
use webhook_core::{
    Changed, ClaimOptions, Delivery, DeliveryFilter, DeliveryStatus, EndReason, Endpoint,
    EndpointFilter, EndpointSettings, ErrorKind, Event, EventFilter, InsertOptions, OnConflict,
    Page, PageRequest, Replay, ReplaySelection, ReplayState, Result, Scope, Store, Timestamp,
    Verdict,
};

const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A schema with an endpoint and `count` events for it.
async fn with_events(count: usize) -> Schema {
    let schema = Schema::new().await;
    let endpoint = endpoint_for("default", EndpointSettings::default());
    let stored = schema.store.insert_endpoint(&endpoint, usize::MAX).await;
    stored.expect("stored");
    let event = |n: usize| event_for("default", "a", &n.to_string(), T0);
    let events: Vec<_> = (0..count).map(event).collect();
    let stored = schema
        .store
        .insert_events(&events, &InsertOptions::new(OnConflict::Skip), Some(T0))
        .await;
    stored.expect("stored");
    schema
}

/// The ids of a table's rows, as the database orders them.
async fn ids(schema: &Schema, table: &str) -> Vec<Uuid> {
    let text = format!("SELECT array_agg(id ORDER BY id) FROM webhook.{table}");
    schema.value(&text).await
}

async fn spoil(schema: &Schema, table: &str, column: &str, ids: &[Uuid]) {
    for id in ids {
        let text = format!("UPDATE webhook.{table} SET {column} = '{{ ?' WHERE id = '{id}'");
        schema.run(&text).await;
    }
}

#[test]
fn a_queue_is_filled_with_all_others() {
    run(async {
        let schema = with_events(7).await;
        let all = ids(&schema, "deliveries").await;
        let (bad, good) = (&all[1..4], [all[0], all[4], all[5], all[6]]);
        spoil(&schema, "deliveries", "tenant", bad).await;
        let jobs = schema.store.jobs(&all).await.expect("jobs are read");
        assert_eq!(jobs.len(), good.len());

        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = schema.store.unqueued(after, 2).await.expect("a page");
            found.extend(page.iter().map(|job| job.delivery));
            after = page.last().map(|job| job.delivery);
            if page.len() < 2 {
                break;
            }
        }
        assert_eq!(found, good);
    });
}

#[test]
fn a_queue_of_none_but_such_ends() {
    run(async {
        let schema = with_events(3).await;
        let all = ids(&schema, "deliveries").await;
        spoil(&schema, "deliveries", "tenant", &all).await;
        assert_eq!(schema.store.unqueued(None, 2).await.expect("a page"), []);
    });
}

/// All ids of a list, page by page.
async fn pages<T>(
    read: impl AsyncFn(PageRequest) -> Result<Page<T>>,
    id: fn(&T) -> Uuid,
) -> Vec<Uuid> {
    let mut found = Vec::new();
    let mut request = PageRequest::first(2);
    loop {
        let page = read(request).await.expect("a page");
        found.extend(page.items.iter().map(id));
        request.before = page.next;
        if page.next.is_none() {
            found.reverse();
            return found;
        }
    }
}

#[test]
fn lists_show_all_others() {
    run(async {
        let schema = with_events(6).await;
        let store = &schema.store;
        for _ in 0..5 {
            let endpoint = endpoint_for("other", EndpointSettings::default());
            store
                .insert_endpoint(&endpoint, usize::MAX)
                .await
                .expect("stored");
        }
        let spoiled = [
            ("deliveries", "last_error"),
            ("events", "event_type"),
            ("endpoints", "settings"),
        ];
        for (table, column) in spoiled {
            let all = ids(&schema, table).await;
            // A whole page of them, counted from the newest, and the last of another.
            spoil(&schema, table, column, &[all[0], all[2], all[3]]).await;
            let good = [all[1], all[4], all[5]];
            let (deliveries, events) = (DeliveryFilter::default(), EventFilter::default());
            let found = match table {
                "deliveries" => {
                    let read = async |page| store.deliveries(&Scope::All, &deliveries, page).await;
                    pages(read, |it: &Delivery| it.id).await
                }
                "events" => {
                    let read = async |page| store.events(&Scope::All, &events, page).await;
                    pages(read, |it: &Event| it.id).await
                }
                _ => {
                    let read = async |page| {
                        store
                            .endpoints(&Scope::All, &EndpointFilter::default(), page)
                            .await
                    };
                    pages(read, |it: &Endpoint| it.id).await
                }
            };
            assert_eq!(found, good, "{table}");
        }
        // Who asks for one hears why it does not come.
        let endpoint = ids(&schema, "endpoints").await[0];
        let error = store.endpoint(&Scope::All, endpoint).await;
        assert_eq!(error.expect_err("a bad row").kind(), ErrorKind::Corrupt);
    });
}

#[test]
fn an_event_is_replayed_to_all_other_endpoints() {
    run(async {
        let schema = with_events(1).await;
        let bad = ids(&schema, "endpoints").await;
        spoil(&schema, "endpoints", "settings", &bad).await;
        let other = endpoint_for("default", EndpointSettings::default());
        let stored = schema.store.insert_endpoint(&other, usize::MAX).await;
        stored.expect("stored");
        let event = ids(&schema, "events").await[0];
        let replayed = schema.store.replay_event(&Scope::All, event, Some(T0));
        let Ok(Changed::Done(jobs)) = replayed.await else {
            panic!("it is replayed");
        };
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].lane, other.id);
    });
}

#[test]
fn a_replay_passes_over_what_cannot_be_read_and_waits_for_no_other() {
    run(async {
        let schema = with_events(3).await;
        let end = "WITH ended AS (DELETE FROM webhook.deliveries RETURNING *)
            INSERT INTO webhook.deliveries_history (id, event_id, endpoint_id, replay_no, tenant, event_type,
                status, attempts, created_at, updated_at)
            SELECT id, event_id, endpoint_id, replay_no, tenant, event_type, 'failed', 1, created_at,
                updated_at
            FROM ended";
        schema.run(end).await;
        let all = ids(&schema, "deliveries_history").await;
        spoil(&schema, "deliveries_history", "event_type", &all[1..2]).await;
        let failed = DeliveryFilter {
            status: Some(DeliveryStatus::Failed),
            ..DeliveryFilter::default()
        };
        let replay = |second| Replay {
            id: event_for("default", "a", "1", Timestamp::from_seconds(second)).id,
            tenant: None,
            selection: ReplaySelection::Deliveries(failed.clone()),
            state: ReplayState::Running,
            pace: 500,
            total: 2,
            total_is_exact: true,
            done: 0,
            skipped: 0,
            created_by: None,
            created_at: T0,
            updated_at: T0,
        };
        let (bad, good) = (replay(1), replay(2));
        for replay in [&bad, &good] {
            let stored = schema.store.insert_replay(replay, Some(T0)).await;
            stored.expect("stored");
        }
        // As of a version that knows more selections.
        spoil(&schema, "replays", "selection", &[bad.id]).await;
        let first = schema
            .store
            .step_replay(10, Some(T0))
            .await
            .expect("a step");
        assert_eq!(first.replay, None);
        let second = schema
            .store
            .step_replay(10, Some(T0))
            .await
            .expect("a step");
        let done = second.replay.expect("the other one");
        assert_eq!((done.id, done.done, done.skipped), (good.id, 2, 1));
        let page = PageRequest::first(10);
        let seen = schema
            .store
            .replays(&Scope::All, page)
            .await
            .expect("a page");
        assert_eq!(seen.items, [done]);
    });
}

#[test]
fn what_can_never_be_attempted_is_ended_as_it_is_loaded() {
    run(async {
        let schema = with_events(3).await;
        let events = ids(&schema, "events").await;
        spoil(&schema, "events", "event_type", &events).await;
        let queue = schema.store.queue().expect("its own");
        let load = async |limit| {
            let options = ClaimOptions::new(limit, Duration::from_secs(60));
            let claimed = queue.claim(options, Some(T0)).await.expect("claims");
            let loaded = schema.store.load(&claimed.leases, Some(T0)).await;
            let verdicts = loaded.expect("loads").into_iter().map(|it| it.verdict);
            verdicts.collect::<Vec<_>>()
        };
        let dead = |verdicts: &[Verdict], reason| {
            let is_dead = |it: &&Verdict| matches!(it, Verdict::Dead(why) if *why == reason);
            verdicts.iter().filter(is_dead).count()
        };
        assert_eq!(dead(&load(2).await, EndReason::Corrupt), 2);
        schema.run("DELETE FROM webhook.endpoints").await;
        assert_eq!(dead(&load(2).await, EndReason::EndpointDeleted), 1);
        let ended = "SELECT array_agg(status || ' ' || end_reason ORDER BY status) FROM webhook.deliveries_history";
        let ended: Vec<String> = schema.value(ended).await;
        assert_eq!(
            ended,
            [
                "cancelled endpoint_deleted",
                "failed corrupt",
                "failed corrupt"
            ]
        );
    });
}
