//! [`RedisQueue`]: implements the trait's methods by scripts on shards.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::task::AbortHandle;
use uuid::Uuid;
use webhook_core::{
    ClaimOptions, Claimed, Depth, Hold, Job, LaneLimits, Lease, Now, Queue, QueuePart, Result,
    Settle, Timestamp,
};

use crate::builder::RedisQueueBuilder;
use crate::client::{Client, Heard, Subscription, broken};
use crate::reply::{Answer, Reply, UnexpectedReply};
use crate::request::Requests;
use crate::script::{self, Script};
use crate::shard::{Asked, Shards};

/// The most jobs or leases of one script: so it never holds up its server for long.
const MAX_BATCH: usize = 250;
/// Where a count of lanes begins, and that it has ended.
const START: Bytes = Bytes::from_static(b"0");
/// How often a claim asks on although it got nothing: a shard that says "at once" may have had to tidy up first.
const MAX_BARREN_ROUNDS: usize = 4;
/// The greatest number of microseconds that scripts calculate with exactly: 2^53, the year 2255.
const MAX_MICROS: u64 = 1 << 53;

/// Lanes in Redis, beside a store. Clones share connections.
///
/// ```no_run
/// # async fn run() -> Result<(), webhook_core::Error> {
/// use webhook_redis::RedisQueue;
///
/// let queue = RedisQueue::connect("redis://localhost:6379").await?;
/// // Dispatcher::builder(store).queue(queue)
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisQueue(Arc<Inner>);

struct Inner {
    client: Arc<Client>,
    shards: Arc<Shards>,
    requests: Requests,
    listener: AbortHandle,
}

/// What a claim from one shard brought.
struct Part {
    leases: Vec<Lease>,
    next_due: Option<Timestamp>,
    /// Whether there is more at once.
    has_more: bool,
    reclaimed: usize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl RedisQueue {
    /// Connects with the defaults of [`RedisQueue::builder`].
    ///
    /// # Errors
    /// When `url` is not the URL of a Redis server. It is no error if the server is away: the queue goes on to connect in the
    /// background, and until then its methods fail as unavailable.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// Settings, to connect with.
    ///
    /// `url` is `redis://user:password@host:6379/0`, `redis-sentinel://host:26379?sentinelServiceName=name` or
    /// `redis-cluster://host:7000?node=other:7001`; with `rediss` in place of `redis` for TLS.
    pub fn builder(url: &str) -> RedisQueueBuilder {
        RedisQueueBuilder::new(url)
    }

    pub(crate) fn start(client: Arc<Client>, shards: Arc<Shards>, heard: Subscription) -> Self {
        let listener = tokio::spawn(listen(heard, Arc::clone(&shards))).abort_handle();
        Self(Arc::new(Inner {
            client,
            shards,
            requests: Requests::default(),
            listener,
        }))
    }

    /// Runs a script on a shard and takes in what it tells of it.
    async fn run(&self, script: &Script, shard: usize, args: Args) -> Result<Answer> {
        let answer = self.ask(script, shard, args).await;
        match &answer {
            Ok(answer) => self.0.shards.heard(shard, answer),
            Err(_) => self.0.shards.suspect(shard),
        }
        answer
    }

    async fn ask(&self, script: &Script, shard: usize, args: Args) -> Result<Answer> {
        let keys = self.0.shards.keys(shard);
        self.0.client.run(script, keys, args.0).await
    }

    fn args(&self, shard: usize, now: Now) -> Args {
        let mut args = Args::default();
        match now {
            Some(now) => args.time(now),
            None => args.text(""),
        }
        args.text(self.0.shards.channel());
        args.text(&self.0.shards.label(shard));
        args
    }

    /// Claims from one shard.
    async fn claim_from(
        &self,
        asked: Asked,
        limit: usize,
        options: &ClaimOptions,
        rooms: &[(Uuid, u32)],
        now: Now,
    ) -> Result<Part> {
        let mut args = self.args(asked.shard, now);
        args.int(limit.min(MAX_BATCH));
        args.span(options.lease);
        args.int(options.room);
        args.rooms(rooms);
        let request = self.0.requests.next();
        args.text(&self.0.shards.label_of(request.place()));
        args.int(request.number());
        let mut answer = self.ask(&script::CLAIM, asked.shard, args).await?;
        let granted =
            granted(std::mem::take(&mut answer.result)).map_err(|error| broken("claim", error))?;
        let has_more = match granted.passed {
            Passed::None => {
                self.0.shards.claimed(asked, &answer);
                answer.next_due.is_some_and(|due| due <= answer.now)
            }
            passed => {
                answer.next_due = granted.next_timer;
                self.0.shards.passed_over(asked, &answer, rooms);
                passed == Passed::Some
            }
        };
        Ok(Part {
            leases: granted.leases,
            next_due: answer.next_due,
            has_more,
            reclaimed: granted.reclaimed,
        })
    }

    /// The rooms of each shard's lanes. After what was claimed in one go, fewer.
    fn rooms_by_shard(&self, rooms: &HashMap<Uuid, u32>) -> Vec<Vec<(Uuid, u32)>> {
        let mut by_shard = vec![Vec::new(); self.0.shards.count()];
        for (lane, room) in rooms {
            by_shard[self.0.shards.of(*lane)].push((*lane, *room));
        }
        by_shard
    }

    /// Has a look at the shards that fail, without anybody who waits for it.
    fn try_failing(&self) {
        for shard in self.0.shards.to_try() {
            let queue = self.clone();
            tokio::spawn(async move {
                let args = queue.args(shard, None);
                if let Err(error) = queue.run(&script::PARTS, shard, args).await {
                    tracing::warn!(%error, shard, "a shard is still away");
                }
            });
        }
    }

    /// What waits in a shard. Counted some lanes at a time, so what changes meanwhile may be missed or counted twice.
    async fn depth_of(&self, shard: usize, now: Now) -> Result<Depth> {
        let mut depth = Depth::default();
        let mut cursor = START;
        loop {
            let mut args = self.args(shard, now);
            args.0.push(cursor);
            let answer = self.run(&script::DEPTH, shard, args).await?;
            let (next, page) = counted(answer.result).map_err(|error| broken("depth", error))?;
            depth = sum(depth, page);
            if next == START {
                return Ok(depth);
            }
            cursor = next;
        }
    }

    /// What is to be done on which shard, in batches.
    fn batches<'a, T>(&self, all: &'a [T], lane: impl Fn(&T) -> Uuid) -> Vec<(usize, Vec<&'a T>)> {
        let mut shards = vec![Vec::new(); self.0.shards.count()];
        for one in all {
            shards[self.0.shards.of(lane(one))].push(one);
        }
        let mut batches = Vec::new();
        for (shard, mut rest) in shards.into_iter().enumerate() {
            while !rest.is_empty() {
                let next = rest.split_off(rest.len().min(MAX_BATCH));
                batches.push((shard, std::mem::replace(&mut rest, next)));
            }
        }
        batches
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, jobs: &[Job], now: Now) -> Result<()> {
        let batches = self.batches(jobs, |job| job.lane).into_iter();
        let pushed = join_all(batches.map(|(shard, jobs)| {
            let mut args = self.args(shard, now);
            args.jobs(&jobs);
            self.run(&script::PUSH, shard, args)
        }));
        first_failure(pushed.await)
    }

    /// Asks only shards that may have something, and shares the limit among them; so an idle claim costs nothing.
    async fn claim(&self, options: ClaimOptions, now: Now) -> Result<Claimed> {
        let mut leases = Vec::new();
        let (mut failure, mut next_due, mut barren, mut reclaimed) = (None, None, 0, 0);
        let mut rooms: HashMap<Uuid, u32> = options.rooms.iter().copied().collect();
        self.try_failing();
        self.0
            .shards
            .unblock(|lane| rooms.get(&lane).is_none_or(|room| *room > 0));
        // Pinned times say nothing of when to ask: then it is every shard, now.
        let mut waiting = self.0.shards.worth_asking(now.is_some());
        let mut unasked = waiting.len();
        while !waiting.is_empty() && leases.len() < options.limit && barren < MAX_BARREN_ROUNDS {
            let before = leases.len();
            let shares = shares(options.limit - before, waiting.len());
            let asked: Vec<_> = waiting.drain(..shares.len()).collect();
            let by_shard = self.rooms_by_shard(&rooms);
            let claims = asked.iter().zip(shares).map(|(asked, share)| {
                self.claim_from(*asked, share, &options, &by_shard[asked.shard], now)
            });
            for (asked, claimed) in asked.iter().zip(join_all(claims).await) {
                match claimed {
                    Ok(part) => {
                        for lease in &part.leases {
                            let room = rooms.entry(lease.lane).or_insert(options.room);
                            *room = room.saturating_sub(1);
                        }
                        leases.extend(part.leases);
                        reclaimed += part.reclaimed;
                        if part.has_more {
                            waiting.push(*asked);
                        } else {
                            next_due = next_due.into_iter().chain(part.next_due).min();
                        }
                    }
                    Err(error) => {
                        self.0.shards.failed(asked.shard);
                        failure = Some(error);
                    }
                }
            }
            // A limit below their number asks them one after another: each of them has its say.
            barren += usize::from(leases.len() == before && unasked == 0);
            unasked = unasked.saturating_sub(asked.len());
        }
        match failure {
            Some(error) if leases.is_empty() => return Err(error),
            Some(error) => tracing::warn!(%error, "a shard cannot be claimed from"),
            None => {}
        }
        if now.is_none() {
            next_due = self.0.shards.next_due();
        }
        let next_due = next_due.filter(|_| leases.is_empty());
        Ok(Claimed {
            leases,
            next_due,
            reclaimed,
        })
    }

    async fn extend(&self, leases: &[Lease], by: Duration, now: Now) -> Result<Vec<Lease>> {
        let batches = self.batches(leases, |lease| lease.lane).into_iter();
        let extended = try_join_all(batches.map(|(shard, leases)| async move {
            let mut args = self.args(shard, now);
            args.span(by);
            leases.iter().for_each(|lease| args.lease(lease));
            let answer = self.run(&script::EXTEND, shard, args).await?;
            standing(&leases, answer.result).map_err(|error| broken("extend", error))
        }));
        Ok(extended.await?.into_iter().flatten().collect())
    }

    async fn settle(&self, settled: &[(Lease, Settle)], now: Now) -> Result<()> {
        let batches = self.batches(settled, |(lease, _)| lease.lane).into_iter();
        let settled = join_all(batches.map(|(shard, settled)| {
            let mut args = self.args(shard, now);
            args.settled(&settled);
            self.run(&script::SETTLE, shard, args)
        }));
        first_failure(settled.await)
    }

    async fn hold(&self, lane: Uuid, hold: Hold, now: Now) -> Result<()> {
        let shard = self.0.shards.of(lane);
        let mut args = self.args(shard, now);
        args.uuid(lane);
        args.span(hold.by);
        args.int(u8::from(hold.then_probe));
        self.run(&script::HOLD, shard, args).await.map(drop)
    }

    async fn release(&self, lane: Uuid) -> Result<()> {
        let shard = self.0.shards.of(lane);
        let mut args = self.args(shard, None);
        args.uuid(lane);
        self.run(&script::RELEASE, shard, args).await.map(drop)
    }

    async fn ready(&self) {
        self.0.shards.ready().await;
    }

    /// The shards. Costs nothing between losses of the connection: every script's answer tells its shard's generation.
    async fn parts(&self) -> Result<Vec<QueuePart>> {
        let mut parts = self.0.shards.parts();
        let unconfirmed = parts.iter_mut().enumerate();
        let unconfirmed = unconfirmed.filter(|(_, part)| part.generation.is_none());
        let asked = join_all(unconfirmed.map(|(shard, part)| async move {
            let args = self.args(shard, None);
            let answer = self.run(&script::PARTS, shard, args).await?;
            self.0.shards.confirmed(shard, answer.generation);
            part.generation = Some(answer.generation);
            Ok(())
        }));
        let asked = asked.await;
        let failures = asked.iter().filter(|asked| asked.is_err()).count();
        match first_failure(asked) {
            Err(error) if failures == parts.len() => return Err(error),
            Err(error) => tracing::warn!(%error, "a shard cannot be asked for its generation"),
            Ok(()) => {}
        }
        Ok(parts)
    }

    fn part_of(&self, lane: Uuid) -> usize {
        self.0.shards.of(lane)
    }

    async fn depth(&self, now: Now) -> Result<Depth> {
        let shards = 0..self.0.shards.count();
        let depths = try_join_all(shards.map(|shard| self.depth_of(shard, now))).await?;
        Ok(depths.into_iter().fold(Depth::default(), sum))
    }
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue")
            .field("shards", &self.0.shards)
            .finish_non_exhaustive()
    }
}

/// Takes in what is announced, until the queue is dropped.
async fn listen(mut heard: Subscription, shards: Arc<Shards>) {
    while let Some(heard) = heard.next().await {
        match heard {
            Heard::Message(message) => shards.announced(&message),
            Heard::Gap => shards.doubt(),
        }
    }
}

/// What to answer for all shards: those that are there have done their part.
fn first_failure<T>(results: Vec<Result<T>>) -> Result<()> {
    let mut failures = results.into_iter().filter_map(Result::err);
    failures.next().map_or(Ok(()), Err)
}

/// A limit in equal parts, none of them empty.
fn shares(limit: usize, count: usize) -> Vec<usize> {
    let count = count.min(limit);
    let (each, rest) = (limit / count, limit % count);
    (0..count).map(|n| each + usize::from(n < rest)).collect()
}

/// What a claim answers.
struct Granted {
    leases: Vec<Lease>,
    passed: Passed,
    /// If lanes were passed over: when something else falls due.
    next_timer: Option<Timestamp>,
    reclaimed: usize,
}

/// Whether there are fewer leases than asked for because lanes were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    None,
    /// There may be others behind them.
    Some,
    All,
}

fn granted(result: Vec<Reply>) -> Result<Granted, UnexpectedReply> {
    let [ends, fence, granted, passed, next_timer, reclaimed]: [Reply; 6] =
        result.try_into().map_err(|_| UnexpectedReply)?;
    let until = ends.time()?.ok_or(UnexpectedReply)?;
    let (granted, rest) = granted.bytes()?.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(UnexpectedReply);
    }
    let lease = |(fence, ids): (i64, &[u8; 32])| {
        let (lane, delivery) = ids.split_at(16);
        Ok(Lease {
            delivery: Uuid::from_slice(delivery).map_err(|_| UnexpectedReply)?,
            lane: Uuid::from_slice(lane).map_err(|_| UnexpectedReply)?,
            fence,
            until,
        })
    };
    let leases = (fence.int()?..).zip(granted).map(lease);
    Ok(Granted {
        leases: leases.collect::<Result<_, _>>()?,
        passed: match passed.int()? {
            0 => Passed::None,
            1 => Passed::Some,
            _ => Passed::All,
        },
        next_timer: next_timer.time()?,
        reclaimed: usize::try_from(reclaimed.int()?).unwrap_or(0),
    })
}

/// Those of the leases that still stood, with their new end.
fn standing(leases: &[&Lease], result: Vec<Reply>) -> Result<Vec<Lease>, UnexpectedReply> {
    let [ends, stood]: [Reply; 2] = result.try_into().map_err(|_| UnexpectedReply)?;
    let until = ends.time()?.ok_or(UnexpectedReply)?;
    let mut standing = Vec::with_capacity(leases.len());
    for (lease, stood) in leases.iter().zip(stood.array()?) {
        if stood.int()? == 1 {
            standing.push(Lease { until, ..**lease });
        }
    }
    Ok(standing)
}

/// Where to go on, and what waits in the lanes before that.
fn counted(result: Vec<Reply>) -> Result<(Bytes, Depth), UnexpectedReply> {
    let [next, ready, parked, leased, oldest_due]: [Reply; 5] =
        result.try_into().map_err(|_| UnexpectedReply)?;
    let count = |reply: &Reply| u64::try_from(reply.int()?).map_err(|_| UnexpectedReply);
    let depth = Depth {
        ready: count(&ready)?,
        parked: count(&parked)?,
        leased: count(&leased)?,
        oldest_due: oldest_due.time()?,
    };
    Ok((next.bytes()?.clone(), depth))
}

fn sum(one: Depth, other: Depth) -> Depth {
    Depth {
        ready: one.ready + other.ready,
        parked: one.parked + other.parked,
        leased: one.leased + other.leased,
        oldest_due: one.oldest_due.into_iter().chain(other.oldest_due).min(),
    }
}

/// What is to be done, lane by lane.
fn by_lane<'a, T>(all: &[&'a T], lane: impl Fn(&T) -> Uuid) -> Vec<(Uuid, Vec<&'a T>)> {
    let mut lanes: Vec<(Uuid, Vec<&T>)> = Vec::new();
    let mut places = HashMap::new();
    for one in all {
        let lane = lane(one);
        let place = *places.entry(lane).or_insert(lanes.len());
        if place == lanes.len() {
            lanes.push((lane, Vec::new()));
        }
        lanes[place].1.push(one);
    }
    lanes
}

/// A script's arguments, in the forms that the scripts read.
#[derive(Default)]
struct Args(Vec<Bytes>);

impl Args {
    fn text(&mut self, text: &str) {
        self.0.push(Bytes::copy_from_slice(text.as_bytes()));
    }

    fn int(&mut self, int: impl fmt::Display) {
        self.0.push(format!("{int}").into());
    }

    fn uuid(&mut self, id: Uuid) {
        self.0.push(Bytes::copy_from_slice(id.as_bytes()));
    }

    fn time(&mut self, at: Timestamp) {
        self.int(at.as_micros().unsigned_abs().min(MAX_MICROS));
    }

    fn span(&mut self, by: Duration) {
        self.int(micros(by));
    }

    fn lease(&mut self, lease: &Lease) {
        self.uuid(lease.lane);
        self.uuid(lease.delivery);
        self.int(lease.fence);
    }

    /// Lanes, and how many jobs of each.
    fn rooms(&mut self, rooms: &[(Uuid, u32)]) {
        let room = |(lane, room): &(Uuid, u32)| {
            let room = u16::try_from(*room).unwrap_or(u16::MAX).to_be_bytes();
            lane.as_bytes()
                .iter()
                .copied()
                .chain(room)
                .collect::<Vec<_>>()
        };
        self.0.push(rooms.iter().flat_map(room).collect());
    }

    /// Leases and how they end, lane by lane.
    fn settled(&mut self, settled: &[&(Lease, Settle)]) {
        for (lane, settled) in by_lane(settled, |(lease, _)| lease.lane) {
            self.uuid(lane);
            self.int(settled.len());
            let fates = settled
                .iter()
                .flat_map(|(lease, settle)| fate(lease.fence, *settle));
            self.0.push(fates.collect());
            for (lease, _) in settled {
                self.uuid(lease.delivery);
            }
        }
    }

    /// Jobs, lane by lane.
    fn jobs(&mut self, jobs: &[&Job]) {
        for (lane, jobs) in by_lane(jobs, |job| job.lane) {
            let last = jobs[jobs.len() - 1];
            let fence = jobs.iter().map(|job| job.fence).max();
            self.uuid(lane);
            self.0.push(limits(last));
            self.int(fence.unwrap_or_default());
            self.int(jobs.len());
            for job in jobs {
                self.time(job.due);
                self.0.push(place(job));
            }
        }
    }
}

/// How a lease ends, in a form that scripts unpack: fence, kind and time.
fn fate(fence: i64, settle: Settle) -> [u8; 17] {
    let (how, by) = match settle {
        Settle::Done => (0, Duration::ZERO),
        Settle::After(by) => (1, by),
        Settle::Unused(by) => (2, by),
    };
    let mut fate = [how; 17];
    fate[..8].copy_from_slice(&(fence as f64).to_be_bytes());
    fate[9..].copy_from_slice(&double(by));
    fate
}

/// How a job's lane is scheduled, in a form that scripts unpack, and whose it is.
fn limits(job: &Job) -> Bytes {
    let LaneLimits {
        max_in_flight,
        rate,
        ordered,
    } = job.limits;
    let (interval, tolerance) = rate.map_or_else(Default::default, |rate| {
        let interval = rate.per / rate.limit.max(1);
        // A burst of a tenth of the limit.
        (
            interval,
            interval.saturating_mul((rate.limit / 10).max(1) - 1),
        )
    });
    let mut limits = f64::from(max_in_flight).to_be_bytes().to_vec();
    limits.extend(double(interval));
    limits.extend(double(tolerance));
    limits.push(u8::from(ordered));
    limits.extend_from_slice(job.tenant.as_str().as_bytes());
    limits.into()
}

/// Microseconds as scripts calculate with them, exactly.
fn double(by: Duration) -> [u8; 8] {
    (micros(by) as f64).to_be_bytes()
}

/// A job as a lane orders it: by sequence, byte by byte, and then by delivery.
fn place(job: &Job) -> Bytes {
    let sequence = job.sequence.cast_unsigned() ^ (1 << 63);
    let mut place = sequence.to_be_bytes().to_vec();
    place.extend_from_slice(job.delivery.as_bytes());
    place.into()
}

fn micros(by: Duration) -> u64 {
    u64::try_from(by.as_micros())
        .unwrap_or(u64::MAX)
        .min(MAX_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shared_without_rest() {
        assert_eq!(shares(10, 4), [3, 3, 2, 2]);
        assert_eq!(shares(2, 4), [1, 1]);
        assert_eq!(shares(250, 1), [250]);
    }

    #[test]
    fn places_sort_as_sequences_do() {
        let job = |sequence| Job {
            delivery: Uuid::nil(),
            lane: Uuid::nil(),
            tenant: webhook_core::Tenant::default(),
            due: Timestamp::EPOCH,
            fence: 0,
            sequence,
            limits: LaneLimits::default(),
        };
        let places: Vec<_> = [i64::MIN, -1, 0, 1, 255, 256, i64::MAX]
            .map(job)
            .iter()
            .map(place)
            .collect();
        assert!(places.is_sorted());
    }
}
