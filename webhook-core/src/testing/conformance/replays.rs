//! The checks of bulk replays, and of whose fault a failure is, which are in a store's list.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::checks::{ALL, PAGE, Scene, T0, at, record, seconds};
use super::{Harness, event_for, new_id};
use crate::delivery::{Attempt, DeliveryStatus, EndReason, FailureCause, Outcome};
use crate::endpoint::{Endpoint, EndpointSettings, EndpointState};
use crate::filter::PayloadFilter;
use crate::queue::Job;
use crate::replay::{EndpointReplay, Replay, ReplaySelection, ReplayState, ReplayStep};
use crate::retry::Next;
use crate::store::{Changed, DeliveryFilter, Record, Store, Verdict};
use crate::tenant::{PageRequest, Scope, Tenant};
use crate::time::Timestamp;
use crate::transport::TransportErrorKind;

/// When replays are started. All that they select is older.
const START: u64 = 1_000;
const PACE: u32 = 10;
const GIVEN_UP: Next = Next::Failed(EndReason::Exhausted);

pub(super) fn dead_letters() -> ReplaySelection {
    ReplaySelection::Deliveries(DeliveryFilter {
        status: Some(DeliveryStatus::Failed),
        ..DeliveryFilter::default()
    })
}

fn of_endpoint(endpoint: &Endpoint, since: u64) -> EndpointReplay {
    EndpointReplay {
        endpoint_id: endpoint.id,
        since: T0 + seconds(since),
        until: None,
        status: None,
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("valid")
}

pub(super) async fn start<H: Harness>(
    scene: &Scene<H>,
    scope: &Scope,
    selection: &ReplaySelection,
    second: u64,
) -> Replay {
    let made_up = Timestamp::from_seconds(1);
    let replay = Replay {
        id: new_id(T0 + seconds(second)),
        tenant: match scope {
            Scope::All => None,
            Scope::Tenant(tenant) => Some(tenant.clone()),
        },
        selection: selection.clone(),
        state: ReplayState::Running,
        pace: PACE,
        total: 7,
        total_is_exact: false,
        done: 0,
        skipped: 0,
        created_by: Some("ann".to_owned()),
        created_at: made_up,
        updated_at: made_up,
    };
    let started = scene.store().insert_replay(&replay, at(second)).await;
    started.expect("a replay is stored")
}

async fn step<H: Harness>(scene: &Scene<H>, limit: usize, now: Timestamp) -> ReplayStep {
    let step = scene.store().step_replay(limit, Some(now)).await;
    let step = step.expect("a step is taken");
    let pushed = scene.queue.push(&step.jobs, Some(now)).await;
    pushed.expect("jobs are pushed");
    step
}

/// Takes all steps of the only replay as they fall due.
async fn run_through<H: Harness>(scene: &Scene<H>, limit: usize) -> (Replay, Vec<Job>) {
    let (mut now, mut jobs, mut last) = (T0 + seconds(START), Vec::new(), None);
    for _ in 0..1_000 {
        let taken = step(scene, limit, now).await;
        assert!(taken.jobs.len() <= limit);
        jobs.extend(taken.jobs);
        last = taken.replay.or(last);
        match taken.next_in {
            Some(by) => now = now + by,
            None => break,
        }
    }
    (last.expect("a replay was due"), jobs)
}

/// What a replay that is started now would do, page by page: wanted and skipped.
async fn scan<H: Harness>(
    scene: &Scene<H>,
    scope: &Scope,
    selection: &ReplaySelection,
    limit: usize,
) -> (u64, u64) {
    let (mut wanted, mut skipped, mut after) = (0, 0, None);
    for _ in 0..1_000 {
        let store = scene.store();
        let scan = store.scan_replay(scope, selection, after, limit, at(START));
        let scan = scan.await.expect("a selection is looked at");
        assert!(scan.wanted + scan.skipped <= limit as u64);
        wanted += scan.wanted;
        skipped += scan.skipped;
        after = scan.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(after, None, "it comes to an end");
    (wanted, skipped)
}

/// Starts a replay and takes all its steps. What a scan said before must come true.
async fn replay<H: Harness>(
    scene: &Scene<H>,
    scope: &Scope,
    selection: &ReplaySelection,
    limit: usize,
) -> (Replay, Vec<Job>) {
    let scanned = scan(scene, scope, selection, limit).await;
    assert_eq!(scan(scene, scope, selection, 1_000).await, scanned);
    start(scene, scope, selection, START).await;
    let (replay, jobs) = run_through(scene, limit).await;
    assert_eq!((replay.done, replay.skipped), scanned);
    assert_eq!(replay.done, jobs.len() as u64);
    (replay, jobs)
}

/// An event that is enqueued, attempted and given up, at this second.
async fn dead_letter<H: Harness>(scene: &Scene<H>, tenant: &str, second: u64) -> Uuid {
    let event = event_for(tenant, "a", "1", T0 + seconds(second));
    let jobs = scene.insert(&[event], at(second)).await;
    scene.attempt(500, GIVEN_UP, at(second)).await;
    jobs[0].delivery
}

/// The events of jobs that were made, in the order in which they were made.
async fn events_of<H: Harness>(scene: &Scene<H>, jobs: &[Job]) -> Vec<Uuid> {
    let mut jobs = jobs.to_vec();
    jobs.sort_by_key(|job| job.sequence);
    let mut events = Vec::new();
    for job in jobs {
        events.push(scene.delivery(job.delivery).await.event_id);
    }
    events
}

async fn set_state<H: Harness>(scene: &Scene<H>, endpoint: &mut Endpoint, state: EndpointState) {
    endpoint.state = state;
    endpoint.version += 1;
    let updated = scene.store().update_endpoint(endpoint).await;
    assert!(updated.expect("an endpoint is changed"));
}

pub(super) async fn bulk_replay_makes_one_of_each_in_order<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.lane(EndpointSettings::default()).await;
    let mut dead = Vec::new();
    for second in 0..5 {
        dead.push(dead_letter(&scene, "default", second).await);
    }
    let others = [10, 11].map(|second| event_for("default", "a", "1", T0 + seconds(second)));
    scene.insert(&others[..1], at(10)).await;
    scene.attempt(200, Next::Succeeded, at(10)).await;
    scene.insert(&others[1..], at(11)).await;

    let (replay, jobs) = replay(&scene, &ALL, &dead_letters(), 2).await;
    assert_eq!(replay.state, ReplayState::Completed);
    assert_eq!((replay.done, replay.skipped), (5, 0));
    let mut wanted = Vec::new();
    for id in &dead {
        let before = scene.delivery(*id).await;
        assert_eq!(before.status, DeliveryStatus::Failed, "it stays as it was");
        wanted.push(before.event_id);
    }
    assert_eq!(events_of(&scene, &jobs).await, wanted);
    for job in &jobs {
        let made = scene.delivery(job.delivery).await;
        assert_eq!((made.replay_no, made.attempts), (1, 0));
        assert_eq!(made.status, DeliveryStatus::Pending);
    }
    let due = at(START + 100);
    let runnable: BTreeSet<_> = scene.runnable(due).await.into_iter().collect();
    assert!(jobs.iter().all(|job| runnable.contains(&job.delivery)));
}

pub(super) async fn bulk_replay_never_replays_what_it_made<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.lane(EndpointSettings::default()).await;
    dead_letter(&scene, "default", START).await;
    start(&scene, &ALL, &dead_letters(), START).await;
    let now = T0 + seconds(START);
    assert_eq!(step(&scene, 1, now).await.jobs.len(), 1);
    // It fails again while the replay is still at it, by a clock that stands still.
    scene.attempt(500, GIVEN_UP, at(START)).await;
    let (replay, jobs) = run_through(&scene, 1).await;
    assert_eq!(jobs, []);
    assert_eq!((replay.done, replay.state), (1, ReplayState::Completed));
}

pub(super) async fn bulk_replay_passes_over_what_was_replayed_since<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.lane(EndpointSettings::default()).await;
    let gone = scene.endpoint("other", EndpointSettings::default()).await;
    let dead = [
        dead_letter(&scene, "default", 0).await,
        dead_letter(&scene, "default", 1).await,
        dead_letter(&scene, "default", 2).await,
        dead_letter(&scene, "other", 3).await,
    ];
    let store = scene.store();
    let again = |id| store.replay_delivery(&ALL, id, at(20));
    let Changed::Done(job) = again(dead[0]).await.expect("answers") else {
        panic!("it has ended");
    };
    scene.queue.push(&[job], at(20)).await.expect("is pushed");
    scene.attempt(200, Next::Succeeded, at(20)).await;
    again(dead[1]).await.expect("answers");
    let deleted = store.delete_endpoint(&ALL, gone.id, at(30)).await;
    assert!(deleted.expect("answers"));

    let (replay, jobs) = replay(&scene, &ALL, &dead_letters(), 3).await;
    assert_eq!((replay.done, replay.skipped), (1, 3));
    let event = scene.delivery(dead[2]).await.event_id;
    assert_eq!(events_of(&scene, &jobs).await, [event]);
}

pub(super) async fn bulk_replay_selects_by_each_filter<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.lane(EndpointSettings::default()).await;
    let wanted = dead_letter(&scene, "default", 5).await;
    let event_id = scene.delivery(wanted).await.event_id;
    scene.endpoint("other", EndpointSettings::default()).await;
    let event = event_for("other", "b", "1", T0 + seconds(10));
    scene.insert(&[event], at(10)).await;
    scene.attempt(200, Next::Succeeded, at(10)).await;
    let any = DeliveryFilter::default();
    for filter in [
        DeliveryFilter {
            endpoint_id: Some(endpoint),
            ..any.clone()
        },
        DeliveryFilter {
            event_id: Some(event_id),
            ..any.clone()
        },
        DeliveryFilter {
            event_type: "a".parse().ok(),
            ..any.clone()
        },
        DeliveryFilter {
            status: Some(DeliveryStatus::Failed),
            ..any.clone()
        },
        DeliveryFilter {
            error_kinds: vec!["http_500".to_owned()],
            ..any.clone()
        },
        DeliveryFilter {
            cause: Some(FailureCause::Endpoint),
            ..any.clone()
        },
        DeliveryFilter {
            since: at(5),
            until: at(6),
            ..any.clone()
        },
    ] {
        let selection = ReplaySelection::Deliveries(filter);
        let found = scan(&scene, &ALL, &selection, 1).await;
        assert_eq!(found, (1, 0), "{selection:?}");
    }
    let all = ReplaySelection::Deliveries(any);
    assert_eq!(scan(&scene, &ALL, &all, 1).await, (2, 0));
    let own = tenant("default").into();
    assert_eq!(scan(&scene, &own, &all, 1).await, (1, 0));
    let (replay, jobs) = replay(&scene, &own, &all, 10).await;
    assert_eq!(replay.tenant, Some(tenant("default")));
    assert_eq!(events_of(&scene, &jobs).await, [event_id]);
}

pub(super) async fn bulk_replay_of_an_endpoint_makes_what_it_missed<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let settings = EndpointSettings {
        event_types: vec!["a".parse().expect("a pattern")],
        filter: PayloadFilter::new(&serde_json::json!({ "data": { "gte": 1 } })).ok(),
        ..EndpointSettings::default()
    };
    let mut endpoint = scene.endpoint("default", settings).await;
    dead_letter(&scene, "default", 0).await;
    let failed = dead_letter(&scene, "default", 10).await;
    set_state(&scene, &mut endpoint, EndpointState::Disabled).await;
    let missed = [
        ("default", "a", "1", 20),
        ("default", "b", "1", 21),
        ("default", "a", "0", 22),
        ("other", "a", "1", 23),
        ("default", "a", "2", 24),
        ("default", "a", "1", START + 10),
    ];
    let missed = missed.map(|(tenant, event_type, data, second)| {
        event_for(tenant, event_type, data, T0 + seconds(second))
    });
    assert_eq!(scene.insert(&missed, at(20)).await, [], "it is disabled");
    set_state(&scene, &mut endpoint, EndpointState::Enabled).await;
    let live = event_for("default", "a", "1", T0 + seconds(30));
    scene.insert(&[live], at(30)).await;

    let selection = ReplaySelection::Endpoint(of_endpoint(&endpoint, 10));
    let own = tenant("default").into();
    let foreign = tenant("other").into();
    assert_eq!(scan(&scene, &foreign, &selection, 2).await, (0, 0));
    let (done, jobs) = replay(&scene, &own, &selection, 2).await;
    assert_eq!((done.done, done.skipped), (3, 1), "one is live");
    let failed = scene.delivery(failed).await.event_id;
    let wanted = [failed, missed[0].id, missed[4].id];
    assert_eq!(events_of(&scene, &jobs).await, wanted);
    let mut numbers = Vec::new();
    for job in &jobs {
        let made = scene.delivery(job.delivery).await;
        numbers.push((made.replay_no, made.status));
    }
    numbers.sort_unstable_by_key(|(number, _)| *number);
    let pending = |number| (number, DeliveryStatus::Pending);
    assert_eq!(numbers, [pending(0), pending(0), pending(1)]);
    assert_eq!(scan(&scene, &own, &selection, 2).await, (0, 4), "all live");
}

pub(super) async fn bulk_replay_of_an_endpoint_keeps_to_its_time_and_status<H: Harness>(
    harness: H,
) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    scene.endpoint("other", EndpointSettings::default()).await;
    dead_letter(&scene, "default", 0).await;
    dead_letter(&scene, "other", 1).await;
    dead_letter(&scene, "default", 10).await;
    let event = event_for("default", "a", "1", T0 + seconds(20));
    scene.insert(&[event], at(20)).await;
    scene.attempt(200, Next::Succeeded, at(20)).await;
    let all = of_endpoint(&endpoint, 0);
    for (replay, wanted) in [
        (all.clone(), 3),
        (of_endpoint(&endpoint, 10), 2),
        (of_endpoint(&endpoint, 11), 1),
        (of_endpoint(&endpoint, START), 0),
        (
            EndpointReplay {
                until: at(10),
                ..all.clone()
            },
            1,
        ),
        (
            EndpointReplay {
                status: Some(DeliveryStatus::Failed),
                ..all.clone()
            },
            2,
        ),
        (
            EndpointReplay {
                status: Some(DeliveryStatus::Succeeded),
                ..all
            },
            1,
        ),
    ] {
        let selection = ReplaySelection::Endpoint(replay);
        let found = scan(&scene, &ALL, &selection, 1).await;
        assert_eq!(found, (wanted, 0), "{selection:?}");
    }
}

pub(super) async fn bulk_replay_of_an_endpoint_ends_with_it<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let endpoint = scene.endpoint("default", EndpointSettings::default()).await;
    dead_letter(&scene, "default", 0).await;
    let selection = ReplaySelection::Endpoint(of_endpoint(&endpoint, 0));
    start(&scene, &ALL, &selection, START).await;
    let deleted = scene.store().delete_endpoint(&ALL, endpoint.id, at(START));
    assert!(deleted.await.expect("answers"));
    let (replay, jobs) = run_through(&scene, 10).await;
    assert_eq!((replay.state, replay.done), (ReplayState::Cancelled, 0));
    assert_eq!(jobs, []);
}

pub(super) async fn bulk_replay_keeps_to_its_pace<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.lane(EndpointSettings::default()).await;
    for second in 0..5 {
        dead_letter(&scene, "default", second).await;
    }
    let now = T0 + seconds(START);
    let idle = step(&scene, 2, now).await;
    assert_eq!(idle, ReplayStep::default(), "none runs");
    let replay = start(&scene, &ALL, &dead_letters(), START).await;
    let first = step(&scene, 2, now).await;
    assert_eq!(first.jobs.len(), 2);
    // Two at ten a second.
    let rest = Duration::from_millis(200);
    assert_eq!(first.next_in, Some(rest));
    let early = step(&scene, 2, now + rest / 2).await;
    assert_eq!((early.replay, early.next_in), (None, Some(rest / 2)));
    let second = step(&scene, 2, now + rest).await;
    let progress = second.replay.expect("a step");
    assert_eq!((progress.id, progress.done), (replay.id, 4));
    assert_eq!(progress.updated_at, now + rest);
    assert_eq!(progress.created_at, replay.created_at);

    // One that is started meanwhile does not wait for it.
    let other = start(&scene, &ALL, &dead_letters(), START + 1).await;
    let steps = [(); 2].map(|()| step(&scene, 2, now + seconds(1)));
    let [third, fourth] = steps;
    let ids = [third.await, fourth.await].map(|step| step.replay.map(|replay| replay.id));
    assert!(ids.contains(&Some(replay.id)) && ids.contains(&Some(other.id)));
}

pub(super) async fn bulk_replay_step_is_taken_once<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.lane(EndpointSettings::default()).await;
    for second in 0..9 {
        dead_letter(&scene, "default", second).await;
    }
    // Two that select the same.
    start(&scene, &ALL, &dead_letters(), START).await;
    start(&scene, &ALL, &dead_letters(), START).await;
    let (mut now, mut jobs) = (T0 + seconds(START), Vec::new());
    for _ in 0..40 {
        let [a, b, c] = [(); 3].map(|()| step(&scene, 2, now));
        let (a, b, c) = futures_util::future::join3(a, b, c).await;
        jobs.extend([a, b, c].into_iter().flat_map(|step| step.jobs));
        now = now + seconds(1);
    }
    let events: BTreeSet<_> = events_of(&scene, &jobs).await.into_iter().collect();
    assert_eq!((jobs.len(), events.len()), (9, 9));
    let replays = scene
        .store()
        .replays(&ALL, PAGE)
        .await
        .expect("reads")
        .items;
    let done: u64 = replays.iter().map(|replay| replay.done).sum();
    let skipped: u64 = replays.iter().map(|replay| replay.skipped).sum();
    assert_eq!((done, skipped), (9, 9));
    let ended = |replay: &Replay| replay.state == ReplayState::Completed;
    assert!(replays.iter().all(ended));
}

pub(super) async fn bulk_replay_can_be_cancelled<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.lane(EndpointSettings::default()).await;
    for second in 0..3 {
        dead_letter(&scene, "default", second).await;
    }
    let replay = start(&scene, &ALL, &dead_letters(), START).await;
    let now = T0 + seconds(START);
    assert_eq!(step(&scene, 1, now).await.jobs.len(), 1);
    let cancel = || async {
        let cancelled = scene.store().cancel_replay(&ALL, replay.id, at(START + 1));
        cancelled.await.expect("answers")
    };
    let Changed::Done(cancelled) = cancel().await else {
        panic!("it runs");
    };
    assert_eq!(cancelled.state, ReplayState::Cancelled);
    assert_eq!(cancelled.updated_at, now + seconds(1));
    assert_eq!(cancel().await, Changed::Refused);
    let later = step(&scene, 1, now + seconds(100)).await;
    assert_eq!(later, ReplayStep::default());
    let found = scene.store().replay(&ALL, replay.id).await.expect("reads");
    assert_eq!(
        found.map(|it| (it.state, it.done)),
        Some((ReplayState::Cancelled, 1))
    );
}

pub(super) async fn bulk_replays_are_seen_in_their_scope<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let store = scene.store();
    let endpoint = scene.endpoint("own", EndpointSettings::default()).await;
    let (own, foreign) = (Scope::from(tenant("own")), Scope::from(tenant("foreign")));
    let everybodys = start(&scene, &ALL, &dead_letters(), START).await;
    let selection = ReplaySelection::Endpoint(EndpointReplay {
        until: at(50),
        status: Some(DeliveryStatus::Cancelled),
        ..of_endpoint(&endpoint, 5)
    });
    let owned = start(&scene, &own, &selection, START + 1).await;
    assert_eq!(
        owned.created_at,
        T0 + seconds(START + 1),
        "the store's time"
    );
    assert_eq!(owned.selection, selection);
    for (scope, seen) in [
        (&ALL, vec![&owned, &everybodys]),
        (&own, vec![&owned]),
        (&foreign, vec![]),
    ] {
        let page = store.replays(scope, PAGE).await.expect("reads");
        assert_eq!(page.items.iter().collect::<Vec<_>>(), seen);
        for replay in [&owned, &everybodys] {
            let found = store.replay(scope, replay.id).await.expect("reads");
            assert_eq!(found.as_ref(), seen.contains(&replay).then_some(replay));
        }
    }
    let first = store
        .replays(&ALL, PageRequest::first(1))
        .await
        .expect("reads");
    assert_eq!(first.items, std::slice::from_ref(&owned));
    let next = PageRequest {
        before: first.next,
        limit: 1,
    };
    let second = store.replays(&ALL, next).await.expect("reads");
    assert_eq!((second.items, second.next), (vec![everybodys], None));
    for (scope, id) in [(&foreign, owned.id), (&own, second_id(&scene).await)] {
        let cancelled = store.cancel_replay(scope, id, at(START)).await;
        assert_eq!(cancelled.expect("answers"), Changed::NotFound);
    }
    let cancelled = store.cancel_replay(&own, owned.id, at(START)).await;
    assert!(matches!(cancelled.expect("answers"), Changed::Done(_)));
}

/// The oldest replay of all.
async fn second_id<H: Harness>(scene: &Scene<H>) -> Uuid {
    let all = scene
        .store()
        .replays(&ALL, PAGE)
        .await
        .expect("reads")
        .items;
    all[all.len() - 1].id
}

pub(super) async fn bulk_replays_end_with_the_retention<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    let ended = start(&scene, &ALL, &dead_letters(), 0).await;
    let cancelled = scene.store().cancel_replay(&ALL, ended.id, at(0)).await;
    cancelled.expect("answers");
    let running = start(&scene, &ALL, &dead_letters(), 0).await;
    for (second, left) in [(999, 2), (1_001, 1)] {
        let kept = scene.store().maintain(seconds(1_000), at(second)).await;
        kept.expect("housekeeping");
        let found = scene
            .store()
            .replays(&ALL, PAGE)
            .await
            .expect("reads")
            .items;
        assert_eq!(found.len(), left);
        assert!(found.contains(&running));
    }
}

pub(super) async fn failures_are_told_apart_by_whose_they_are<H: Harness>(harness: H) {
    let scene = Scene::new(harness);
    scene.lane(EndpointSettings::default()).await;
    let theirs = dead_letter(&scene, "default", 0).await;
    let event = event_for("default", "a", "1", T0 + seconds(10));
    let ours = scene.insert(&[event], at(10)).await[0].delivery;
    let lease = scene.take(at(10)).await;
    let attempt = Attempt {
        outcome: Outcome::Failed(TransportErrorKind::Internal),
        ..Attempt::clone(record(lease, 500, GIVEN_UP).attempt.as_ref().expect("one"))
    };
    let failed = Record {
        attempt: Some(Arc::new(attempt)),
        ..record(lease, 500, Next::RetryAfter(seconds(5)))
    };
    let recorded = scene.store().record(&[failed], at(10)).await;
    recorded.expect("is recorded");
    let settle = [(lease, crate::queue::Settle::After(seconds(5)))];
    let settled = scene.queue.settle(&settle, at(10)).await;
    settled.expect("is settled");
    let corrupt = Next::Failed(EndReason::Corrupt);
    let event = event_for("default", "a", "1", T0 + seconds(11));
    let unreadable = scene.insert(&[event], at(11)).await[0].delivery;
    scene.attempt(200, corrupt, at(11)).await;
    let event = event_for("default", "a", "1", T0 + seconds(12));
    scene.insert(&[event], at(12)).await;
    scene.attempt(200, Next::Succeeded, at(12)).await;

    for (cause, wanted) in [
        (FailureCause::Endpoint, vec![theirs]),
        (FailureCause::System, vec![unreadable, ours]),
    ] {
        let filter = DeliveryFilter {
            cause: Some(cause),
            ..DeliveryFilter::default()
        };
        let found = scene.store().deliveries(&ALL, &filter, PAGE).await;
        let found = found.expect("reads").items;
        assert!(found.iter().all(|it| it.cause() == Some(cause)));
        let found: Vec<_> = found.iter().map(|it| it.id).collect();
        assert_eq!(found, wanted, "{cause:?}");
    }

    // What failed through us does not count, and the endpoint's failure after it does.
    let attempts = |verdict: Verdict| match verdict {
        Verdict::Run(work) => (work.attempts, work.excused),
        other => panic!("{other:?}"),
    };
    let lease = scene.claim(1, at(20)).await[0];
    let loaded = scene
        .load(lease, at(20))
        .await
        .expect("the claim is current");
    assert_eq!(attempts(loaded.verdict), (1, 1));
    let retry = Next::RetryAfter(seconds(5));
    scene.record(lease, 500, retry, at(20)).await;
    let settle = [(lease, crate::queue::Settle::After(seconds(5)))];
    let settled = scene.queue.settle(&settle, at(20)).await;
    settled.expect("is settled");
    let lease = scene.claim(1, at(30)).await[0];
    let loaded = scene
        .load(lease, at(30))
        .await
        .expect("the claim is current");
    assert_eq!(attempts(loaded.verdict), (2, 1));
}
