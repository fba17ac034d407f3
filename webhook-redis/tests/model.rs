//! The queue does what the memory queue does, the specification, whatever is done to both.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Standalone, builder, lane};
use uuid::Uuid;
use webhook_core::testing::run;
use webhook_core::{
    ClaimOptions, Hold, Job, LaneLimits, Lease, MemoryQueue, Queue, RateLimit, Settle, Tenant,
    Timestamp,
};
use webhook_redis::RedisQueue;

const LEASE: Duration = Duration::from_secs(30);
const STEPS: usize = 150;

/// Both queues, and what a worker would remember. Fences differ, so each has its own leases.
struct Both {
    random: StdRng,
    memory: MemoryQueue,
    redis: RedisQueue,
    now: Timestamp,
    lanes: Vec<(Uuid, Tenant)>,
    jobs: Vec<Job>,
    leases: Vec<[Lease; 2]>,
}

impl Both {
    async fn new(seed: u64) -> Self {
        let tenant = |name| Tenant::new(name).expect("a valid name");
        let tenants = ["a", "b", "a", "b", "c"].map(tenant);
        Self {
            random: StdRng::seed_from_u64(seed),
            memory: MemoryQueue::default(),
            redis: builder::<Standalone>()
                .connect()
                .await
                .expect("a Redis URL"),
            now: Timestamp::from_seconds(1_700_000_000),
            lanes: tenants.map(|tenant| (lane(), tenant)).into(),
            jobs: Vec::new(),
            leases: Vec::new(),
        }
    }

    fn up_to(&mut self, count: u64) -> u64 {
        self.random.random_range(0..count)
    }

    fn seconds(&mut self, count: u64) -> Duration {
        Duration::from_secs(self.up_to(count))
    }

    fn any_lane(&mut self) -> Uuid {
        let index = self.random.random_range(0..self.lanes.len());
        self.lanes[index].0
    }

    async fn step(&mut self) {
        match self.up_to(12) {
            0..=2 => self.push_new().await,
            3 => self.push_again().await,
            4..=6 => self.claim().await,
            7..=8 => self.settle().await,
            9 => self.extend().await,
            10 => self.hold_or_release().await,
            _ => self.now = self.now + self.seconds(40),
        }
        self.compare_depth().await;
    }

    async fn push_new(&mut self) {
        let index = self.random.random_range(0..self.lanes.len());
        let (lane, tenant) = self.lanes[index].clone();
        let limits = self.limits();
        let of_lane = |job: &&mut Job| job.lane == lane;
        let jobs = self.jobs.iter_mut().filter(of_lane);
        jobs.for_each(|job| job.limits = limits);
        for _ in 0..self.up_to(6) {
            let due = self.now + self.seconds(20);
            let job = Job {
                delivery: Uuid::from_u128(self.random.random()),
                lane,
                tenant: tenant.clone(),
                due,
                fence: 0,
                sequence: i64::try_from(self.jobs.len()).expect("few"),
                limits,
            };
            self.jobs.push(job);
            let new = self.jobs.len() - 1..self.jobs.len();
            self.push(&self.jobs[new]).await;
        }
    }

    /// As the sweep does. Some have ended since, and begin anew.
    async fn push_again(&mut self) {
        let claimed: Vec<_> = self.leases.iter().map(|both| both[0].delivery).collect();
        let jobs = self
            .jobs
            .iter()
            .filter(|job| claimed.contains(&job.delivery));
        self.push(&jobs.cloned().collect::<Vec<_>>()).await;
    }

    async fn push(&self, jobs: &[Job]) {
        let now = Some(self.now);
        self.memory.push(jobs, now).await.expect("pushes");
        self.redis.push(jobs, now).await.expect("pushes");
    }

    fn limits(&mut self) -> LaneLimits {
        let rates = [
            None,
            Some(RateLimit {
                limit: 30,
                per: Duration::from_secs(60),
            }),
            Some(RateLimit {
                limit: 7,
                per: Duration::from_secs(10),
            }),
        ];
        let ordered = self.up_to(4) == 0;
        let cap = [1, 2, 32][self.random.random_range(0..3)];
        LaneLimits {
            max_in_flight: if ordered { 1 } else { cap },
            rate: rates[self.random.random_range(0..3)],
            ordered,
        }
    }

    async fn claim(&mut self) {
        let (options, now) = (self.options(), Some(self.now));
        let mut memory = self
            .memory
            .claim(options.clone(), now)
            .await
            .expect("claims");
        let mut redis = self.redis.claim(options, now).await.expect("claims");
        assert_eq!(redis.next_due, memory.next_due);
        memory.leases.sort_by_key(|lease| lease.delivery);
        redis.leases.sort_by_key(|lease| lease.delivery);
        let what = |lease: &Lease| (lease.delivery, lease.lane, lease.until);
        let claimed: Vec<_> = redis.leases.iter().map(what).collect();
        assert_eq!(claimed, memory.leases.iter().map(what).collect::<Vec<_>>());
        // As the store learns them. Pushed again, they keep the memory queue from giving a fence twice.
        for lease in &memory.leases {
            let of_lease = |job: &&mut Job| job.delivery == lease.delivery;
            let job = self.jobs.iter_mut().find(of_lease);
            job.expect("it was pushed").fence = lease.fence;
        }
        let both = memory.leases.into_iter().zip(redis.leases);
        self.leases
            .extend(both.map(|(memory, redis)| [memory, redis]));
    }

    /// With room for some jobs of some lanes, or for all.
    fn options(&mut self) -> ClaimOptions {
        let options = ClaimOptions::new(1_000, LEASE);
        if self.up_to(2) == 0 {
            return options;
        }
        let rooms = (0..self.up_to(4)).map(|_| (self.any_lane(), self.room()));
        let rooms = rooms.collect::<HashMap<_, _>>();
        let room = 1 + self.room();
        options.rooms(room, rooms.into_iter().collect())
    }

    fn room(&mut self) -> u32 {
        self.random.random_range(0..3)
    }

    /// Of current leases and of stale ones.
    async fn settle(&mut self) {
        let now = Some(self.now);
        for _ in 0..self.up_to(4).min(self.leases.len() as u64) {
            let index = self.random.random_range(0..self.leases.len());
            let settle = match self.up_to(3) {
                0 => Settle::Done,
                1 => Settle::After(self.seconds(30)),
                _ => Settle::Unused(self.seconds(5)),
            };
            let [memory, redis] = self.leases.swap_remove(index);
            self.memory
                .settle(&[(memory, settle)], now)
                .await
                .expect("settles");
            self.redis
                .settle(&[(redis, settle)], now)
                .await
                .expect("settles");
        }
    }

    async fn extend(&mut self) {
        let (by, now) = (self.seconds(60), Some(self.now));
        let leases = |queue: usize| self.leases.iter().map(move |both| both[queue]).collect();
        let (memory, redis): (Vec<_>, Vec<_>) = (leases(0), leases(1));
        let memory = self.memory.extend(&memory, by, now).await.expect("extends");
        let redis = self.redis.extend(&redis, by, now).await.expect("extends");
        let what = |lease: &Lease| (lease.delivery, lease.until);
        let mut kept = [memory, redis].map(|all| all.iter().map(what).collect::<Vec<_>>());
        kept.iter_mut().for_each(|all| all.sort());
        assert_eq!(kept[1], kept[0]);
    }

    async fn hold_or_release(&mut self) {
        let (lane, now) = (self.any_lane(), Some(self.now));
        if self.up_to(3) == 0 {
            self.memory.release(lane).await.expect("releases");
            self.redis.release(lane).await.expect("releases");
        } else {
            let by = self.seconds(60);
            let hold = match self.up_to(3) {
                0 => Hold::then_probe(by),
                _ => Hold::new(by),
            };
            self.memory.hold(lane, hold, now).await.expect("holds");
            self.redis.hold(lane, hold, now).await.expect("holds");
        }
    }

    async fn compare_depth(&self) {
        let now = Some(self.now);
        let memory = self.memory.depth(now).await.expect("counts");
        assert_eq!(self.redis.depth(now).await.expect("counts"), memory);
    }
}

#[test]
fn redis_and_memory_agree() {
    run(async {
        for seed in 0..5 {
            let mut both = Both::new(seed).await;
            for _ in 0..STEPS {
                both.step().await;
            }
        }
    });
}
