//! What the queue does beyond the suites in a cluster: lanes in many shards.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::server::{address, move_slot, owner_of, primaries};
use support::{Cluster, builder, claim, generations, jobs, lane, url};
use webhook_core::testing::run;
use webhook_core::{ClaimOptions, Job, Queue, Settle, Timestamp};
use webhook_redis::RedisQueue;

const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);

#[test]
fn lanes_of_all_shards_are_claimed_extended_settled_and_counted() {
    run(async {
        let queue = builder::<Cluster>().connect().await.expect("a Redis URL");
        let now = Some(T0);
        let all: Vec<_> = (0..100).flat_map(|_| jobs(lane(), 10, T0)).collect();
        queue.push(&all, now).await.expect("pushes");
        let few = claim(&queue, 5, now).await;
        let most = claim(&queue, 700, now).await;
        assert_eq!((few.len(), most.len()), (5, 700));
        let depth = queue.depth(now).await.expect("counts");
        assert_eq!((depth.ready, depth.leased), (295, 705));
        assert_eq!(depth.oldest_due, now);

        let kept = queue.extend(&most, Duration::from_secs(90), now).await;
        assert_eq!(kept.expect("extends").len(), 700);
        let minute = Some(T0 + Duration::from_secs(60));
        let rest = claim(&queue, 1_000, minute).await;
        assert_eq!(
            rest.len(),
            295 + 5,
            "the rest, and those that were not extended"
        );

        let taken: Vec<_> = most.iter().chain(&rest).collect();
        let distinct: HashSet<_> = taken.iter().map(|lease| lease.delivery).collect();
        assert_eq!(distinct.len(), 1_000);
        let done: Vec<_> = taken.iter().map(|lease| (**lease, Settle::Done)).collect();
        queue.settle(&done, minute).await.expect("settles");
        let depth = queue.depth(minute).await.expect("counts");
        assert_eq!((depth.ready, depth.parked, depth.leased), (0, 0, 0));
    });
}

#[test]
fn a_job_in_any_shard_is_announced() {
    run(async {
        let prefix = support::prefix();
        let queue = || async {
            let queue = builder::<Cluster>().key_prefix(&prefix);
            queue.connect().await.expect("a Redis URL")
        };
        let (worker, other) = (queue().await, queue().await);
        for _ in 0..20 {
            other
                .push(&jobs(lane(), 1, T0), None)
                .await
                .expect("pushes");
            while claim(&worker, 10, None).await.is_empty() {
                worker.ready().await;
            }
        }
    });
}

#[test]
fn a_shard_that_is_lost_is_lost_alone() {
    run(async {
        let prefix = support::prefix();
        let queue = builder::<Cluster>().key_prefix(&prefix);
        let queue = queue.connect().await.expect("a Redis URL");
        let before = generations(&queue).await;
        assert_eq!(before.len(), 16);
        assert_eq!(generations(&queue).await, before);
        claim(&queue, 1, Some(T0)).await;
        assert_eq!(generations(&queue).await, before);

        let lost = queue.part_of(lane());
        let key = queue.parts().await.expect("answers")[lost].name.clone();
        let key = format!("{{{key}}}");
        let (_, owner) = owner_of(&address(&url::<Cluster>()), &key).await;
        owner.command(&[b"DEL", key.as_bytes()]).await;
        claim(&queue, 100, Some(T0)).await;
        let after = generations(&queue).await;
        let changed: Vec<_> = (0..16)
            .filter(|shard| after[*shard] != before[*shard])
            .collect();
        assert_eq!(changed, [lost]);
    });
}

/// A store's part in it: pushes what has not ended, claims, and settles what it got.
struct Fleet {
    queue: RedisQueue,
    now: Timestamp,
    live: Vec<Job>,
    taken: usize,
    failures: usize,
}

impl Fleet {
    async fn push(&mut self, jobs: Vec<Job>) {
        self.live.extend(jobs.iter().cloned());
        self.failures += usize::from(self.queue.push(&jobs, Some(self.now)).await.is_err());
    }

    /// Answers how many jobs it got.
    async fn claim_and_settle(&mut self) -> usize {
        let options = ClaimOptions::new(5, Duration::from_secs(60));
        let Ok(claimed) = self.queue.claim(options, Some(self.now)).await else {
            self.failures += 1;
            return 0;
        };
        let done: Vec<_> = claimed
            .leases
            .iter()
            .map(|it| (*it, Settle::Done))
            .collect();
        for (lease, _) in &done {
            let place = self
                .live
                .iter()
                .position(|job| job.delivery == lease.delivery);
            // What a settle that failed left behind may come again.
            if let Some(place) = place {
                self.live.swap_remove(place);
                self.taken += 1;
            }
        }
        self.failures += usize::from(self.queue.settle(&done, Some(self.now)).await.is_err());
        done.len()
    }
}

#[test]
fn a_shard_that_moves_to_another_node_loses_nothing_and_is_claimed_from() {
    run(async {
        let (address, prefix) = (address(&url::<Cluster>()), support::prefix());
        let queue = builder::<Cluster>().key_prefix(&prefix).shards(2);
        let queue = queue.connect().await.expect("a Redis URL");
        let parts = queue.parts().await.expect("answers");
        let mut fleet = Fleet {
            queue,
            now: T0,
            live: Vec::new(),
            taken: 0,
            failures: 0,
        };
        for _ in 0..40 {
            fleet.push(jobs(lane(), 10, T0)).await;
        }
        let (slot, from) = owner_of(&address, &format!("{{{}}}", parts[0].name)).await;
        let others = primaries(&address).await;
        let to = others
            .iter()
            .find(|node| **node != from)
            .expect("there are three");
        let moved = move_slot(&slot, &from, to, async || {
            fleet.push(jobs(lane(), 2, T0)).await;
            fleet.claim_and_settle().await;
        });
        assert!(moved.await > 20, "lanes moved");
        assert!(fleet.taken > 20, "claims went on, from the other shard");

        // What a script left undone that met a part of its keys: the sweep pushes what has not ended, and leases end.
        // The first call may still have to learn where the shard is, and fail for it.
        (fleet.now, fleet.failures) = (T0 + Duration::from_secs(61), 0);
        for _ in 0..5 {
            let left = std::mem::take(&mut fleet.live);
            fleet.push(left).await;
            while fleet.claim_and_settle().await > 0 {}
        }
        assert_eq!(fleet.live.len(), 0);
        assert!(fleet.failures <= 2, "{}", fleet.failures);
        move_slot(&slot, to, &from, async || {}).await;
    });
}
