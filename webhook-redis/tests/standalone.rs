//! What the queue does beyond the suites, on a single server.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::log::Log;
use support::server::{Link, address, command, erase};
use support::{Standalone, builder, claim, generations, jobs, lane, prefix, url};
use uuid::Uuid;
use webhook_core::testing::run;
use webhook_core::{
    ClaimOptions, ErrorKind, Hold, Job, LaneLimits, Now, Queue, Settle, Tenant, Timestamp,
};
use webhook_redis::RedisQueue;
use xtask::services::Redis;

const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const CLAIM: &str = concat!(
    "#!lua flags=allow-oom\n",
    include_str!("../src/lua/lanes.lua"),
    include_str!("../src/lua/claim.lua")
);

async fn queue() -> RedisQueue {
    let queue = builder::<Standalone>().connect().await;
    queue.expect("the address is a Redis URL")
}

/// A queue with a known prefix.
async fn queue_of(prefix: &str) -> RedisQueue {
    let queue = RedisQueue::builder(&url::<Standalone>()).key_prefix(prefix);
    queue.connect().await.expect("the address is a Redis URL")
}

fn server() -> String {
    address(&url::<Standalone>())
}

/// One to which a test may do what nobody else could bear.
fn own_server() -> Redis {
    Redis::start().expect("the programs are there")
}

fn ids(jobs: &[Job]) -> HashSet<Uuid> {
    jobs.iter().map(|job| job.delivery).collect()
}

async fn push(queue: &RedisQueue, jobs: &[Job], now: Now) {
    queue.push(jobs, now).await.expect("the server answers");
}

#[test]
fn a_url_or_a_setting_that_cannot_work_is_rejected() {
    run(async {
        let builder = |url| RedisQueue::builder(url);
        for rejected in [
            builder("not a url"),
            builder("redis://"),
            builder("redis://localhost").key_prefix("a{b}"),
            builder("redis://localhost").key_prefix(""),
            builder("redis://localhost").shards(0),
            builder("redis://localhost").command_timeout(Duration::ZERO),
        ] {
            let error = rejected.connect().await.expect_err("it cannot work");
            assert_eq!(error.kind(), ErrorKind::Rejected);
        }
    });
}

#[test]
fn scripts_that_the_server_forgot_are_sent_again() {
    run(async {
        let queue = queue().await;
        let jobs = jobs(lane(), 2, T0);
        push(&queue, &jobs[..1], Some(T0)).await;
        command(&server(), &[&[b"SCRIPT", b"FLUSH"]]).await;
        push(&queue, &jobs[1..], Some(T0)).await;
        command(&server(), &[&[b"SCRIPT", b"FLUSH"]]).await;
        assert_eq!(claim(&queue, 10, Some(T0)).await.len(), 2);
    });
}

#[test]
fn loss_changes_the_generation_and_a_push_makes_it_good() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        let jobs = jobs(lane(), 3, T0);
        push(&queue, &jobs, Some(T0)).await;
        let lost = claim(&queue, 1, Some(T0)).await[0];
        let before = generations(&queue).await;
        assert_eq!(generations(&queue).await, before);

        erase(&server(), &prefix).await;
        assert!(claim(&queue, 10, Some(T0)).await.is_empty());
        assert_ne!(generations(&queue).await, before);
        push(&queue, &jobs, Some(T0)).await;
        let claimed = claim(&queue, 10, Some(T0)).await;
        assert_eq!(claimed.len(), 3);
        assert!(claimed.iter().all(|lease| lease.fence > lost.fence));
    });
}

/// Its clock was ahead when the retry was set, or that of the server before it.
#[test]
fn a_job_that_waits_for_longer_than_in_the_store_is_brought_forward() {
    run(async {
        let both = [false, true].map(|ordered| LaneLimits {
            max_in_flight: if ordered { 1 } else { 32 },
            ordered,
            ..LaneLimits::default()
        });
        for limits in both {
            let queue = queue().await;
            let mut jobs = jobs(lane(), 2, T0);
            jobs.iter_mut().for_each(|job| job.limits = limits);
            push(&queue, &jobs, Some(T0)).await;
            let ahead = T0 + MINUTE * 60;
            let leases = claim(&queue, 2, Some(ahead)).await;
            let settled: Vec<_> = leases
                .iter()
                .map(|lease| (*lease, Settle::After(MINUTE)))
                .collect();
            queue.settle(&settled, Some(ahead)).await.expect("settles");
            // What the store has; what comes a little earlier is left alone.
            let store = |due| {
                let job = |job: &Job| Job { due, ..job.clone() };
                jobs.iter().map(job).collect::<Vec<_>>()
            };
            let after = async |due: Timestamp, at: Timestamp| {
                push(&queue, &store(due), Some(T0)).await;
                claim(&queue, 2, Some(at)).await.len()
            };
            let second = Duration::from_secs(1);
            let late = ahead + MINUTE - second;
            assert_eq!(after(late, late).await, 0, "as good as the same");
            let due = T0 + MINUTE;
            assert_eq!(after(due, due).await, 0);
            let count = leases.len();
            assert_eq!(after(due, due + second).await, count);
            assert_eq!(after(T0, due + second).await, 0, "under a lease");
        }
    });
}

#[test]
fn a_server_that_is_another_one_has_lost_what_it_missed() {
    run(async {
        let prefix = prefix();
        let generation = async || generations(&queue_of(&prefix).await).await;
        let first = generation().await;
        assert_eq!(generation().await, first, "nothing was lost");
        let shard = format!("{{{prefix}:0/1}}");
        command(
            &server(),
            &[&[b"HSET", shard.as_bytes(), b"server", b"of before"]],
        )
        .await;
        assert_ne!(generation().await, first);
    });
}

#[test]
fn fences_exceed_what_the_store_knows_whatever_the_clock_says() {
    run(async {
        let queue = queue().await;
        let mut jobs = jobs(lane(), 2, T0);
        // The year 2200: another server's clock was ahead of this one's.
        jobs[0].fence = 7_258_118_400_000_000;
        push(&queue, &jobs, Some(T0)).await;
        let claimed = claim(&queue, 2, Some(T0)).await;
        assert!(claimed.iter().all(|lease| lease.fence > jobs[0].fence));
        assert_ne!(claimed[0].fence, claimed[1].fence);
    });
}

/// Whoever would release the lane has died with that.
#[test]
fn a_probe_that_nobody_ends_ends_by_itself() {
    run(async {
        let queue = queue().await;
        let jobs = jobs(lane(), 3, T0);
        push(&queue, &jobs, Some(T0)).await;
        let hold = queue.hold(jobs[0].lane, Hold::then_probe(MINUTE), Some(T0));
        hold.await.expect("holds");
        let probed = T0 + MINUTE * 10;
        let probe = claim(&queue, 3, Some(probed)).await;
        assert_eq!(probe.len(), 1);
        let settled = [(probe[0], Settle::Done)];
        let settled = queue.settle(&settled, Some(probed));
        settled.await.expect("settles");
        let later = T0 + MINUTE * 12;
        assert_eq!(claim(&queue, 3, Some(later)).await.len(), 2);
    });
}

/// It is at its cap when the probe begins, and no longer when that is settled: no other job may wait for a push.
#[test]
fn a_probe_that_outlives_its_time_leaves_no_job_behind() {
    run(async {
        let queue = queue().await;
        let jobs = jobs(lane(), 3, T0);
        push(&queue, &jobs, Some(T0)).await;
        let hold = queue.hold(jobs[0].lane, Hold::then_probe(MINUTE), Some(T0));
        hold.await.expect("holds");
        let probed = T0 + MINUTE * 10 + MINUTE / 2;
        let probe = claim(&queue, 3, Some(probed)).await;
        assert_eq!(probe.len(), 1);
        let ended = T0 + MINUTE * 11 + MINUTE / 4;
        let settled = [(probe[0], Settle::Done)];
        let settled = queue.settle(&settled, Some(ended));
        settled.await.expect("settles");
        assert_eq!(claim(&queue, 3, Some(ended)).await.len(), 2);
    });
}

#[test]
fn lanes_without_room_keep_nobody_from_the_rest() {
    run(async {
        // More than a claim passes over at once, of one tenant and of many.
        for (count, tenants) in [(600, 1), (300, 300)] {
            let queue = queue().await;
            let mut full: Vec<_> = (0..count).flat_map(|_| jobs(lane(), 1, T0)).collect();
            for (n, job) in full.iter_mut().enumerate() {
                let tenant = format!("tenant-{}", n % tenants);
                job.tenant = Tenant::new(&tenant).expect("a valid name");
            }
            let mut free = jobs(lane(), 1, T0);
            free[0].tenant = full[0].tenant.clone();
            push(&queue, &[full.clone(), free.clone()].concat(), Some(T0)).await;
            let rooms = full.iter().map(|job| (job.lane, 0)).collect();
            let claim = ClaimOptions::new(1, MINUTE).rooms(1, rooms);
            let claimed = queue.claim(claim, Some(T0)).await.expect("claims");
            assert_eq!(claimed.leases.len(), 1, "{tenants} tenants");
            assert_eq!(claimed.leases[0].lane, free[0].lane);
        }
    });
}

#[test]
fn a_lane_without_room_does_not_hide_when_others_are_due() {
    run(async {
        let queue = queue().await;
        let (full, later) = (jobs(lane(), 1, T0), jobs(lane(), 1, T0 + MINUTE));
        push(&queue, &[full.clone(), later.clone()].concat(), Some(T0)).await;
        let claim = ClaimOptions::new(1, MINUTE).rooms(1, vec![(full[0].lane, 0)]);
        let claimed = queue.claim(claim.clone(), Some(T0)).await.expect("claims");
        assert_eq!(claimed.leases, []);
        assert_eq!(claimed.next_due, Some(T0 + MINUTE));
        let due = Some(T0 + MINUTE);
        let claimed = queue.claim(claim, due).await.expect("claims");
        assert_eq!(claimed.leases[0].lane, later[0].lane);
    });
}

#[test]
fn two_processes_claim_each_job_once() {
    run(async {
        let prefix = prefix();
        let queues = [queue_of(&prefix).await, queue_of(&prefix).await];
        let jobs: Vec<_> = (0..50).flat_map(|_| jobs(lane(), 20, T0)).collect();
        push(&queues[0], &jobs, Some(T0)).await;
        let take_all = async |queue: &RedisQueue| {
            let mut all = Vec::new();
            loop {
                let claimed = claim(queue, 7, Some(T0)).await;
                if claimed.is_empty() {
                    return all;
                }
                all.extend(claimed.iter().map(|lease| lease.delivery));
            }
        };
        let (mut all, others) = tokio::join!(take_all(&queues[0]), take_all(&queues[1]));
        all.extend(others);
        assert_eq!(all.len(), 1_000);
        assert_eq!(HashSet::from_iter(all), ids(&jobs));
    });
}

#[test]
fn more_leases_than_a_script_takes_back_end_at_once() {
    run(async {
        let queue = queue().await;
        let jobs = jobs(lane(), 600, T0);
        push(&queue, &jobs, Some(T0)).await;
        assert_eq!(claim(&queue, 1_000, Some(T0)).await.len(), 600);
        assert_eq!(claim(&queue, 1_000, Some(T0)).await.len(), 0);
        assert_eq!(claim(&queue, 1_000, Some(T0 + MINUTE)).await.len(), 600);
    });
}

#[test]
fn a_lane_that_becomes_ordered_is_lined_up_and_back() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        let lane = lane();
        let mut jobs = jobs(lane, 1_500, T0);
        // The later a job was accepted the earlier it is due.
        for (job, due) in jobs.iter_mut().zip((0..1_500).rev()) {
            job.due = T0 + Duration::from_secs(due);
        }
        let all_due = Some(T0 + 60 * MINUTE);
        push(&queue, &jobs, all_due).await;
        let ordered = LaneLimits {
            max_in_flight: 1,
            ordered: true,
            rate: None,
        };
        jobs.iter_mut().for_each(|job| job.limits = ordered);
        push(&queue, &jobs[..1], all_due).await;
        // The first claims line up; they do nothing else, as a script is to be short.
        let script = claim_script(&prefix, T0 + 60 * MINUTE);
        let script: Vec<&[u8]> = script.iter().map(Vec::as_slice).collect();
        command(&server(), &[&script]).await;
        let mut line = format!("{{{prefix}:0/1}}:line:").into_bytes();
        line.extend_from_slice(lane.as_bytes());
        let lined_up = command(&server(), &[&[b"ZCARD", &line]]).await;
        let lined_up = lined_up
            .lines()
            .next()
            .and_then(|line| line[1..].parse().ok());
        assert!(
            lined_up.is_some_and(|count: usize| (500..600).contains(&count)),
            "{lined_up:?}"
        );
        for job in &jobs[..3] {
            let claimed = loop {
                let claimed = claim(&queue, 10, all_due).await;
                if !claimed.is_empty() {
                    break claimed;
                }
            };
            assert_eq!(claimed.len(), 1);
            assert_eq!(claimed[0].delivery, job.delivery);
            let done = [(claimed[0], Settle::Done)];
            queue.settle(&done, all_due).await.expect("settles");
        }
        jobs[3].limits.ordered = false;
        push(&queue, &jobs[3..4], all_due).await;
        assert_eq!(
            claim(&queue, 1, all_due).await[0].delivery,
            jobs[1_499].delivery
        );
    });
}

#[test]
fn a_lane_whose_limits_are_lost_leaves_the_ring_until_they_are_back() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        let jobs = jobs(lane(), 1, T0);
        push(&queue, &jobs, Some(T0)).await;
        let mut key = format!("{{{prefix}:0/1}}:lane:").into_bytes();
        key.extend_from_slice(jobs[0].lane.as_bytes());
        command(&server(), &[&[b"DEL", &key]]).await;
        let options = ClaimOptions::new(1, MINUTE);
        let claimed = queue.claim(options, Some(T0)).await.expect("answers");
        assert_eq!((claimed.leases.len(), claimed.next_due), (0, None));
        push(&queue, &jobs, Some(T0)).await;
        assert_eq!(claim(&queue, 1, Some(T0)).await.len(), 1);
    });
}

#[test]
fn garbage_in_a_lane_stops_neither_others_nor_itself_for_long() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        for kind in ["lane", "waiting", "leased"] {
            let (good, bad) = (jobs(lane(), 1, T0), jobs(lane(), 1, T0));
            push(&queue, &good, Some(T0)).await;
            push(&queue, &bad, Some(T0)).await;
            let mut key = format!("{{{prefix}:0/1}}:{kind}:").into_bytes();
            key.extend_from_slice(bad[0].lane.as_bytes());
            command(&server(), &[&[b"SET", &key, b"garbage"]]).await;
            let claimed = claim(&queue, 10, Some(T0)).await;
            assert_eq!(claimed.len(), 1, "{kind}");
            assert_eq!(claimed[0].lane, good[0].lane, "{kind}");
            push(&queue, &bad, Some(T0)).await;
            assert_eq!(
                claim(&queue, 10, Some(T0)).await[0].lane,
                bad[0].lane,
                "{kind}"
            );
        }
    });
}

#[test]
fn garbage_in_place_of_what_lanes_share_is_a_loss() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        let mut jobs = jobs(lane(), 3, T0);
        let parked = support::jobs(lane(), 1, T0 + MINUTE).remove(0);
        jobs.push(parked);
        let ring = format!(":ring:{}", jobs[0].tenant);
        for kind in ["", ":turns", ":timers", ":leases", ":lanes", &ring] {
            push(&queue, &jobs, Some(T0)).await;
            let taken = claim(&queue, 1, Some(T0)).await;
            let before = generations(&queue).await;
            let key = format!("{{{prefix}:0/1}}{kind}").into_bytes();
            command(&server(), &[&[b"SET", &key, b"garbage"]]).await;

            queue.depth(Some(T0)).await.expect("counts");
            claim(&queue, 1, Some(T0)).await;
            assert_ne!(generations(&queue).await, before, "{kind}");
            push(&queue, &jobs, Some(T0)).await;
            let due = Some(T0 + 2 * MINUTE);
            let claimed = claim(&queue, 10, due).await;
            assert_eq!(claimed.len(), 4, "{kind}: {taken:?}");
            let done: Vec<_> = claimed.iter().map(|lease| (*lease, Settle::Done)).collect();
            queue.settle(&done, due).await.expect("settles");
        }
    });
}

#[test]
fn held_and_parked_jobs_cost_a_claim_nothing() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        let later = T0 + 60 * MINUTE;
        push(&queue, &jobs(lane(), 5_000, later), Some(T0)).await;
        let lanes: Vec<_> = (0..1_000).map(|_| jobs(lane(), 2, later)).collect();
        push(&queue, &lanes.concat(), Some(T0)).await;
        for _ in 0..20 {
            let held = lane();
            queue
                .hold(held, Hold::new(MINUTE), Some(T0))
                .await
                .expect("holds");
            push(&queue, &jobs(held, 10, T0), Some(T0)).await;
        }
        // The lanes that were held leave the ring.
        assert!(claim(&queue, 10, Some(T0)).await.is_empty());
        push(&queue, &jobs(lane(), 1, T0), Some(T0)).await;
        let calls = calls_of_a_claim(&prefix).await;
        assert!((10..40).contains(&calls), "{calls}");
    });
}

/// Claims as a user who may not touch the keys of `kind`: the script ends there, as it does in a cluster when they have
/// moved to another node before the rest.
async fn claim_without(prefix: &str, kind: &str, now: Timestamp) {
    let shard = format!("{{{prefix}:0/1}}");
    let patterns =
        ["", ":turns", ":timers", ":leases", ":lanes"].map(|key| format!("~{shard}{key}"));
    let others = [":ring:", ":lane:", ":waiting:", ":line:", ":leased:"];
    let others = others.iter().filter(|other| **other != kind);
    let others: Vec<_> = others.map(|other| format!("~{shard}{other}*")).collect();
    let mut user: Vec<&[u8]> = vec![b"ACL", b"SETUSER", prefix.as_bytes(), b"on", b"nopass"];
    user.extend([b"+@all".as_slice(), b"&*"]);
    user.extend(patterns.iter().chain(&others).map(String::as_bytes));
    let auth: &[&[u8]] = &[b"AUTH", prefix.as_bytes(), b"any"];
    let eval = claim_script(prefix, now);
    let eval: Vec<&[u8]> = eval.iter().map(Vec::as_slice).collect();
    let reply = command(&server(), &[&user, auth, &eval]).await;
    command(&server(), &[&[b"ACL", b"DELUSER", prefix.as_bytes()]]).await;
    assert!(reply.starts_with("+OK\r\n+OK\r\n-"), "{reply}");
}

#[test]
fn a_claim_that_ends_halfway_leaves_what_it_did_not_do() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        let mut leased = jobs(lane(), 1, T0);
        leased[0].limits.max_in_flight = 1;
        push(&queue, &leased, Some(T0)).await;
        assert_eq!(claim(&queue, 1, Some(T0)).await.len(), 1);
        claim_without(&prefix, ":leased:", T0 + MINUTE).await;
        assert_eq!(claim(&queue, 1, Some(T0 + MINUTE)).await.len(), 1);

        push(&queue, &jobs(lane(), 1, T0 + MINUTE), Some(T0)).await;
        claim_without(&prefix, ":ring:", T0 + MINUTE).await;
        assert_eq!(claim(&queue, 1, Some(T0 + MINUTE)).await.len(), 1);
    });
}

#[test]
fn a_lease_that_the_shard_forgot_does_not_count_for_ever() {
    run(async {
        let prefix = prefix();
        let queue = queue_of(&prefix).await;
        let mut jobs = jobs(lane(), 2, T0);
        jobs.iter_mut().for_each(|job| job.limits.max_in_flight = 1);
        push(&queue, &jobs[..1], Some(T0)).await;
        assert_eq!(claim(&queue, 1, Some(T0)).await.len(), 1);
        let leases = format!("{{{prefix}:0/1}}:leases");
        command(&server(), &[&[b"DEL", leases.as_bytes()]]).await;
        push(&queue, &jobs[1..], Some(T0)).await;
        assert!(claim(&queue, 1, Some(T0)).await.is_empty());
        assert_eq!(claim(&queue, 1, Some(T0 + MINUTE)).await.len(), 1);
    });
}

/// A claim of ten jobs, as a command.
fn claim_script(prefix: &str, now: Timestamp) -> Vec<Vec<u8>> {
    let shard = format!("{{{prefix}:0/1}}");
    let keys = ["", ":turns", ":timers", ":leases", ":lanes"].map(|key| format!("{shard}{key}"));
    let (now, channel) = (now.as_micros().to_string(), format!("{prefix}:ready"));
    let mut eval = vec![b"EVAL".to_vec(), CLAIM.into(), b"5".to_vec()];
    eval.extend(keys.map(String::into_bytes));
    let args = [&now, &channel, "0", "10", "60000000", "1000", "", "us", "1"];
    eval.extend(args.map(|arg| arg.as_bytes().to_vec()));
    eval
}

/// How many commands a claim runs inside of its script: nobody else's come between those of a transaction.
async fn calls_of_a_claim(prefix: &str) -> u64 {
    let eval = claim_script(prefix, T0);
    let eval: Vec<&[u8]> = eval.iter().map(Vec::as_slice).collect();
    let stats: &[&[u8]] = &[b"INFO", b"commandstats"];
    let reply = command(&server(), &[&[b"MULTI"], stats, &eval, stats, &[b"EXEC"]]).await;
    let (before, after) = reply.split_at(reply.rfind("# Commandstats").expect("two answers"));
    assert!(
        before.contains("# Commandstats") && !reply.contains("\r\n-"),
        "{reply}"
    );
    let calls = |stats: &str| -> u64 {
        let counts = stats.split("calls=").skip(1);
        counts
            .filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok())
            .sum()
    };
    calls(after) - calls(before)
}

#[test]
fn a_job_of_another_process_is_announced() {
    run(async {
        let prefix = prefix();
        let (worker, other) = (queue_of(&prefix).await, queue_of(&prefix).await);
        assert!(claim(&worker, 10, None).await.is_empty());
        push(&other, &jobs(lane(), 1, T0), None).await;
        // What it heard before, of its own connections, makes it look as well.
        while claim(&worker, 10, None).await.is_empty() {
            worker.ready().await;
        }
    });
}

#[test]
fn an_idle_worker_asks_only_when_it_has_reason_to() {
    run(async {
        let link = Link::to(server(), true).await;
        let queue = RedisQueue::builder(&link.url).key_prefix(&prefix());
        let queue = queue.connect().await.expect("the address is a Redis URL");
        let held = lane();
        queue
            .hold(held, Hold::new(60 * MINUTE), None)
            .await
            .expect("holds");
        push(&queue, &jobs(held, 1, T0), None).await;
        queue.parts().await.expect("the server answers");
        assert!(claim(&queue, 10, None).await.is_empty());
        // The news of both connections have arrived when nothing is sent for a while.
        let mut before = link.scripts();
        let mut silent = 0;
        while silent < 1_000 {
            assert!(claim(&queue, 10, None).await.is_empty());
            queue.parts().await.expect("the server answers");
            push(&queue, &[], None).await;
            tokio::task::yield_now().await;
            silent = if link.scripts() == before {
                silent + 1
            } else {
                0
            };
            before = link.scripts();
        }
        let options = ClaimOptions::new(1, MINUTE);
        let next_due = queue.claim(options, None).await.expect("answers").next_due;
        assert!(next_due.is_some(), "the end of the hold is known");
        queue.release(held).await.expect("releases");
        assert_eq!(claim(&queue, 10, None).await.len(), 1);
    });
}

#[test]
fn a_broken_connection_is_mended() {
    run(async {
        let link = Link::to(server(), true).await;
        let queue = RedisQueue::builder(&link.url)
            .key_prefix(&prefix())
            .command_timeout(Duration::from_millis(200));
        let queue = queue.connect().await.expect("the address is a Redis URL");
        let jobs = jobs(lane(), 1, T0);
        push(&queue, &jobs, Some(T0)).await;
        link.set_up(false);
        let error = queue.push(&jobs, Some(T0)).await.expect_err("it is away");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        link.set_up(true);
        while queue.push(&jobs, Some(T0)).await.is_err() {}
        assert_eq!(claim(&queue, 1, Some(T0)).await.len(), 1);
    });
}

#[test]
fn a_shard_that_is_away_keeps_nothing_from_the_others() {
    run(async {
        let prefix = prefix();
        // A user who may not touch the first shard.
        let (name, keys) = (prefix.as_bytes(), format!("~{{{prefix}:1/2}}*"));
        let rights: [&[u8]; 3] = [keys.as_bytes(), b"&*", b"+@all"];
        let user: [&[u8]; 5] = [b"ACL", b"SETUSER", name, b"on", b">any"];
        command(&server(), &[&[&user[..], &rights].concat()]).await;
        let url = format!("redis://{prefix}:any@{}", server());
        let queue = RedisQueue::builder(&url).key_prefix(&prefix).shards(2);
        let queue = queue.connect().await.expect("the address is a Redis URL");
        let jobs: Vec<_> = (0..40).flat_map(|_| jobs(lane(), 1, T0)).collect();
        // As the server forgot the scripts, those that succeed need a second command.
        command(&server(), &[&[b"SCRIPT", b"FLUSH"]]).await;
        queue.push(&jobs, Some(T0)).await.expect_err("one is away");
        queue.parts().await.expect("the other one answers");
        let claimed = claim(&queue, 40, Some(T0)).await;
        assert!((1..40).contains(&claimed.len()), "{}", claimed.len());
        let done: Vec<_> = claimed.iter().map(|lease| (*lease, Settle::Done)).collect();
        queue.settle(&done, Some(T0)).await.expect("settles");

        // Claims go on without it, until it is back.
        assert!(claim(&queue, 40, None).await.is_empty());
        let rights: &[&[u8]] = &[b"ACL", b"SETUSER", name, b"allkeys"];
        command(&server(), &[rights]).await;
        let other = RedisQueue::builder(&support::url::<Standalone>()).key_prefix(&prefix);
        let other = other.shards(2).connect().await.expect("a Redis URL");
        push(&other, &jobs, Some(T0)).await;
        let mut came = 0;
        while came < 40 {
            came += claim(&queue, 40, None).await.len();
            tokio::task::yield_now().await;
        }
        command(&server(), &[&[b"ACL", b"DELUSER", name]]).await;
    });
}

#[test]
fn a_server_that_goes_away_is_noticed_although_nobody_uses_it() {
    run(async {
        let link = Link::to(server(), true).await;
        let queue = RedisQueue::builder(&link.url)
            .key_prefix(&prefix())
            .command_timeout(Duration::from_millis(200));
        let queue = queue.connect().await.expect("the address is a Redis URL");
        queue.parts().await.expect("it is there");
        link.set_up(false);
        while queue.parts().await.is_ok() {
            queue.ready().await;
        }
    });
}

#[test]
fn a_server_that_is_away_at_the_start_is_found_later() {
    run(async {
        let link = Link::to(server(), false).await;
        let queue = RedisQueue::builder(&link.url)
            .key_prefix(&prefix())
            .connect_timeout(Duration::from_millis(200))
            .command_timeout(Duration::from_millis(200));
        let queue = queue.connect().await.expect("being away is no error");
        let jobs = jobs(lane(), 1, T0);
        let error = queue.push(&jobs, Some(T0)).await.expect_err("it is away");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(queue.parts().await.is_err());
        link.set_up(true);
        while queue.push(&jobs, Some(T0)).await.is_err() {}
        queue.ready().await;
        assert_eq!(claim(&queue, 1, Some(T0)).await.len(), 1);
    });
}

/// Its connections stay, and only the code of what it answers says what it has become.
#[test]
fn a_server_that_became_a_replica_is_left_for_the_new_primary() {
    run(async {
        let old = own_server();
        let link = Link::to(address(&old.url()), true).await;
        let queue = RedisQueue::builder(&link.url).key_prefix(&prefix());
        let queue = queue.connect().await.expect("the address is a Redis URL");
        let jobs = jobs(lane(), 1, T0);
        push(&queue, &jobs, Some(T0)).await;
        link.lead_to(server());
        let replica = ["REPLICAOF", "127.0.0.1", "1"];
        old.ask(&replica).expect("it becomes one");
        while let Err(error) = queue.push(&jobs, Some(T0)).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
        assert_eq!(claim(&queue, 1, Some(T0)).await.len(), 1);
    });
}

#[test]
fn a_queue_that_is_dropped_closes_its_connections() {
    run(async {
        let link = Link::to(server(), true).await;
        let queue = RedisQueue::connect(&link.url).await;
        let queue = queue.expect("the address is a Redis URL");
        let clone = queue.clone();
        link.has_open(2).await;
        drop(queue);
        clone.parts().await.expect("a clone keeps them open");
        drop(clone);
        link.has_open(0).await;
    });
}

#[test]
fn a_claim_that_is_sent_twice_is_one() {
    run(async {
        let link = Link::to(server(), true).await;
        let prefix = prefix();
        let queue = RedisQueue::builder(&link.url).key_prefix(&prefix);
        let queue = queue.connect().await.expect("the address is a Redis URL");
        let jobs = jobs(lane(), 30, T0);
        push(&queue, &jobs, Some(T0)).await;
        claim(&queue, 1, Some(T0)).await;
        link.break_after_script();
        let claimed = claim(&queue, 10, Some(T0)).await;
        assert!(!link.is_to_break(), "the first reply was lost");
        assert_eq!(claimed.len(), 10);
        let depth = queue.depth(Some(T0)).await.expect("counts");
        assert_eq!(depth.leased, 11, "nothing is leased that nobody knows of");
        let kept = queue.extend(&claimed, MINUTE, Some(T0)).await;
        assert_eq!(kept.expect("answers").len(), 10);
        assert_eq!(claim(&queue, 100, Some(T0)).await.len(), 19);
    });
}

#[test]
fn a_server_that_may_evict_is_warned_of() {
    run(async {
        let config = async |setting: &str, value: &str| {
            let words = ["CONFIG", "SET", setting, value];
            let reply = command(&server(), &[&words.map(str::as_bytes)]).await;
            assert!(reply.starts_with("+OK"), "{reply}");
        };
        let warning = "set maxmemory-policy to noeviction";
        config("maxmemory", "8gb").await;
        config("maxmemory-policy", "allkeys-lru").await;
        let log = Log::capture();
        let queue = queue().await;
        while !log.warns_of(warning) {
            queue.depth(None).await.expect("the server answers");
        }
        config("maxmemory-policy", "noeviction").await;
        config("maxmemory", "0").await;
    });
}

#[test]
fn a_server_whose_memory_is_full_hands_out_what_it_has() {
    run(async {
        let server = own_server();
        let queue = RedisQueue::connect(&server.url()).await;
        let queue = queue.expect("the address is a Redis URL");
        let parked = jobs(lane(), 2, T0 + MINUTE);
        push(&queue, &parked, Some(T0)).await;
        let limit = |bytes| server.ask(&["CONFIG", "SET", "maxmemory", bytes]);
        limit("1").expect("it is full");
        let refused = queue.push(&jobs(lane(), 1, T0), Some(T0)).await;
        let refused = refused.expect_err("there is no room");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);

        let now = Some(T0 + MINUTE);
        let claimed = claim(&queue, 2, now).await;
        assert_eq!(claimed.len(), 2);
        let kept = queue.extend(&claimed, MINUTE, now).await.expect("extends");
        let settled = [(kept[0], Settle::After(MINUTE)), (kept[1], Settle::Done)];
        queue.settle(&settled, now).await.expect("settles");
        let lane = parked[0].lane;
        let hold = queue.hold(lane, Hold::new(MINUTE), now);
        hold.await.expect("holds");
        queue.release(lane).await.expect("releases");
        queue.parts().await.expect("answers");
        assert_eq!(queue.depth(now).await.expect("counts").parked, 1);
    });
}

#[test]
fn a_server_elsewhere_that_is_not_encrypted_is_warned_of() {
    run(async {
        let log = Log::capture();
        let warning = "unencrypted";
        queue().await;
        assert!(!log.warns_of(warning), "it is on this machine");
        // An address of documentation: nobody answers.
        let elsewhere = RedisQueue::builder("redis://192.0.2.1");
        let elsewhere = elsewhere.connect_timeout(Duration::from_millis(1));
        elsewhere.connect().await.expect("being away is no error");
        assert!(log.warns_of(warning) && log.warns_of("192.0.2.1"));
    });
}

#[test]
fn the_rights_that_are_documented_are_enough() {
    run(async {
        let prefix = prefix();
        // As in the crate's documentation.
        let rights = "on nopass +@read +@write +@connection -@dangerous +eval +evalsha +subscribe \
            +publish +time +info +cluster|slots";
        let (keys, channel) = (format!("~{{{prefix}:*"), format!("&{prefix}:ready"));
        let mut user: Vec<&[u8]> = vec![b"ACL", b"SETUSER", prefix.as_bytes()];
        user.extend(rights.split_whitespace().map(str::as_bytes));
        user.extend([keys.as_bytes(), channel.as_bytes()]);
        assert!(command(&server(), &[&user]).await.starts_with("+OK"));
        let log = Log::capture();
        let url = format!("redis://{prefix}:any@{}", server());
        let queue = RedisQueue::builder(&url).key_prefix(&prefix);
        let queue = queue.connect().await.expect("the address is a Redis URL");
        let other = queue_of(&prefix).await;

        // What another process pushes is heard of.
        assert!(claim(&queue, 10, None).await.is_empty());
        let mut jobs = jobs(lane(), 5, T0);
        jobs.iter_mut().for_each(|job| job.limits.ordered = true);
        push(&other, &jobs, None).await;
        let claimed = loop {
            let claimed = claim(&queue, 1, None).await;
            if !claimed.is_empty() {
                break claimed;
            }
            queue.ready().await;
        };
        push(&queue, &jobs, None).await;
        let kept = queue.extend(&claimed, MINUTE, None).await.expect("answers");
        assert_eq!(kept.len(), 1);
        let retry = [(claimed[0], Settle::After(MINUTE))];
        queue.settle(&retry, None).await.expect("answers");
        queue
            .hold(jobs[0].lane, Hold::new(MINUTE), None)
            .await
            .expect("answers");
        queue.release(jobs[0].lane).await.expect("answers");
        queue.depth(None).await.expect("answers");
        let before = generations(&queue).await;
        let shard = format!("{{{prefix}:0/1}}");
        let set: &[&[u8]] = &[b"HSET", shard.as_bytes(), b"server", b"of before"];
        command(&server(), &[set]).await;
        let again = RedisQueue::builder(&url).key_prefix(&prefix);
        let again = again.connect().await.expect("the address is a Redis URL");
        assert_ne!(generations(&again).await, before, "a restart is noticed");
        assert!(!log.warns_of("refuses"), "nor is the subscription");
        command(&server(), &[&[b"ACL", b"DELUSER", prefix.as_bytes()]]).await;
    });
}
