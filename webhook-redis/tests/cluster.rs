//! What the queue does beyond the suites in a cluster: lanes in many shards.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::{Cluster, builder, claim, jobs, lane};
use webhook_core::testing::run;
use webhook_core::{Queue, Settle, Timestamp};

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
fn the_epoch_is_that_of_all_shards() {
    run(async {
        let queue = builder::<Cluster>().connect().await.expect("a Redis URL");
        let epoch = queue.epoch().await.expect("answers");
        assert_eq!(queue.epoch().await.expect("answers"), epoch);
        claim(&queue, 1, Some(T0)).await;
        assert_eq!(queue.epoch().await.expect("answers"), epoch);
    });
}
