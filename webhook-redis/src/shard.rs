//! Finds the shard of a lane, and keeps what this process knows about each shard: whether it is worth asking.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;
use webhook_core::{QueuePart, Timestamp};

use crate::reply::Answer;

/// A shard is asked once a day, however long the host would have it.
const LONGEST_SILENCE: Duration = Duration::from_secs(86_400);

/// How soon a shard that failed a claim is tried again, and how seldom at last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a shard is left alone that holds only lanes of which this process has no room for more, unless it hears of
/// others or room comes free.
const BLOCKED_PAUSE: Duration = Duration::from_secs(1);

/// The shards of a queue.
///
/// An idle process asks a shard only when it has reason to: the shard said when something falls due, somebody
/// announced that this has become sooner, or it has not been asked for long. Announcements may be lost. So every
/// shard is asked once in `poll` times the number of shards, whatever was heard, and all of them whenever the
/// subscription had a gap; and what the sweep pushes again comes back with the same knowledge.
#[derive(Debug)]
pub(crate) struct Shards {
    keys: Vec<[String; 5]>,
    channel: String,
    /// Who announces: what this process announced it knows already.
    announcer: String,
    longest_silence: Duration,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    known: Vec<Known>,
    /// Where the next claim begins.
    first: usize,
}

#[derive(Clone, Debug)]
struct Known {
    generation: Option<i64>,
    /// Whether the server was asked for it since the last gap.
    confirmed: bool,
    next_due: Option<Timestamp>,
    /// When to ask again.
    ask_at: Instant,
    /// The lanes that the last claim may have passed over.
    blocked: Vec<Uuid>,
    /// How often it failed since it answered. While it fails, and others do not, claims go without it.
    failures: u32,
    /// When to try whether it still does.
    try_at: Instant,
    /// Counts what was learnt, so that an older answer does not undo a newer one.
    version: u64,
}

/// A shard that is worth asking, and what was known when that was decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) shard: usize,
    version: u64,
}

impl Shards {
    pub(crate) fn new(prefix: &str, count: usize, poll: Duration, announcer: &str) -> Self {
        let known = Known {
            generation: None,
            confirmed: false,
            next_due: None,
            ask_at: Instant::now(),
            blocked: Vec::new(),
            failures: 0,
            try_at: Instant::now(),
            version: 0,
        };
        Self {
            keys: (0..count).map(|shard| keys(prefix, shard, count)).collect(),
            channel: format!("{prefix}:ready"),
            announcer: announcer.to_owned(),
            longest_silence: poll
                .saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
                .min(LONGEST_SILENCE),
            state: Mutex::new(State {
                known: vec![known; count],
                first: 0,
            }),
            wake: Notify::new(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.keys.len()
    }

    /// The keys of a shard as a whole.
    pub(crate) fn keys(&self, shard: usize) -> Vec<String> {
        self.keys[shard].to_vec()
    }

    /// Where shards announce that something falls due sooner.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Whose announcement it is: this process, and a shard.
    pub(crate) fn label(&self, shard: usize) -> String {
        format!("{} {shard}", self.announcer)
    }

    /// The name of a place where a shard keeps an answer for this process.
    pub(crate) fn label_of(&self, place: usize) -> String {
        format!("{}:{place}", self.announcer)
    }

    /// The shard of a lane: always the same, in every process and version.
    pub(crate) fn of(&self, lane: Uuid) -> usize {
        let (high, low) = lane.as_u64_pair();
        // The finaliser of SplitMix64: the low bits depend on all bits.
        let mut hash = high ^ low;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        let count = self.keys.len() as u64;
        usize::try_from(hash % count).unwrap_or(0)
    }

    /// The shards that are worth asking now, or all; they take turns to be the first.
    pub(crate) fn worth_asking(&self, all: bool) -> Vec<Asked> {
        let now = Instant::now();
        let mut state = self.state();
        let count = state.known.len();
        let first = state.first;
        state.first = (first + 1) % count;
        let turns = (first..count).chain(0..first);
        let any_works = state.known.iter().any(|known| known.failures == 0);
        let is_worth_it =
            |known: &Known| all || (known.ask_at <= now && (known.failures == 0 || !any_works));
        turns
            .filter(|shard| is_worth_it(&state.known[*shard]))
            .map(|shard| Asked {
                shard,
                version: state.known[shard].version,
            })
            .collect()
    }

    /// Takes in what a claim learnt. It has seen all there was, so it replaces what was known before; not what was
    /// learnt meanwhile.
    pub(crate) fn claimed(&self, asked: Asked, answer: &Answer) {
        let mut state = self.state();
        let known = &mut state.known[asked.shard];
        if known.version == asked.version {
            known.next_due = None;
            known.ask_at = Instant::now() + self.longest_silence;
        }
        known.blocked.clear();
        known.failures = 0;
        known.is_of(answer.generation);
        known.learn(answer.now, answer.next_due);
    }

    /// Takes in that a claim left only lanes of which there is no room here for more: asking again is of use when
    /// there is, when something else falls due, or when it is announced.
    pub(crate) fn passed_over(&self, asked: Asked, answer: &Answer, rooms: &[(Uuid, u32)]) {
        let mut state = self.state();
        let known = &mut state.known[asked.shard];
        if known.version == asked.version {
            known.next_due = None;
            known.ask_at = Instant::now() + BLOCKED_PAUSE.min(self.longest_silence);
        }
        let full = rooms.iter().filter(|(_, room)| *room == 0);
        known.blocked = full.map(|(lane, _)| *lane).collect();
        known.failures = 0;
        known.is_of(answer.generation);
        known.learn(answer.now, answer.next_due);
    }

    /// Has those shards asked again that hold lanes of which there is room for more now.
    pub(crate) fn unblock(&self, has_room: impl Fn(Uuid) -> bool) {
        for known in &mut self.state().known {
            if known.blocked.iter().any(|lane| has_room(*lane)) {
                known.blocked.clear();
                known.ask_at = Instant::now();
            }
        }
    }

    /// Takes in that a claim failed: then claims do not wait for this shard again until something else succeeds.
    pub(crate) fn failed(&self, shard: usize) {
        self.state().known[shard].put_off();
    }

    /// The shards that fail and are to be tried now, beside the claims; not all of them again until later.
    pub(crate) fn to_try(&self) -> Vec<usize> {
        let now = Instant::now();
        let mut to_try = Vec::new();
        for (shard, known) in self.state().known.iter_mut().enumerate() {
            if known.failures > 0 && known.try_at <= now {
                known.put_off();
                to_try.push(shard);
            }
        }
        to_try
    }

    /// Takes in what any other script learnt, and wakes the worker if there is something to claim sooner.
    pub(crate) fn heard(&self, shard: usize, answer: &Answer) {
        let mut state = self.state();
        let known = &mut state.known[shard];
        known.is_of(answer.generation);
        if std::mem::take(&mut known.failures) > 0 {
            self.wake.notify_one();
        }
        self.learn(state, shard, answer.now, answer.next_due);
    }

    /// Takes in a generation that the server has confirmed.
    pub(crate) fn confirmed(&self, shard: usize, generation: i64) {
        let known = &mut self.state().known[shard];
        known.is_of(generation);
        known.confirmed = true;
    }

    /// Has a shard asked: it is unknown what a script did to it.
    pub(crate) fn suspect(&self, shard: usize) {
        let known = &mut self.state().known[shard];
        known.ask_at = Instant::now();
        known.version += 1;
    }

    /// Takes in an announcement of another process.
    pub(crate) fn announced(&self, message: &[u8]) {
        let state = self.state();
        match announcement(message) {
            Some((announcer, ..)) if announcer == self.announcer => {}
            Some((_, shard, now, next_due)) if shard < state.known.len() => {
                self.learn(state, shard, now, Some(next_due));
            }
            _ => tracing::debug!("an announcement that cannot be read"),
        }
    }

    /// Trusts nothing any more: announcements may be lost, and so may be what the shards held.
    pub(crate) fn doubt(&self) {
        for known in &mut self.state().known {
            known.confirmed = false;
            known.ask_at = Instant::now();
            known.failures = 0;
            known.version += 1;
        }
        self.wake.notify_one();
    }

    /// When the next job may be due, as far as known.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let state = self.state();
        let working = state.known.iter().filter(|known| known.failures == 0);
        working.filter_map(|known| known.next_due).min()
    }

    /// The shards as parts of the queue. What one held is in doubt until it has confirmed its generation.
    pub(crate) fn parts(&self) -> Vec<QueuePart> {
        let state = self.state();
        let shards = self.keys.iter().zip(&state.known);
        let part = |(keys, known): (&[String; 5], &Known)| QueuePart {
            name: keys[0].trim_matches(['{', '}']).to_owned(),
            generation: known.generation.filter(|_| known.confirmed),
        };
        shards.map(part).collect()
    }

    /// Returns when something was learnt that makes a claim worth while.
    pub(crate) async fn ready(&self) {
        self.wake.notified().await;
    }

    fn learn(
        &self,
        mut state: MutexGuard<'_, State>,
        shard: usize,
        now: Timestamp,
        next_due: Option<Timestamp>,
    ) {
        let is_sooner = state.known[shard].learn(now, next_due);
        drop(state);
        if is_sooner {
            self.wake.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_of(&mut self, generation: i64) {
        if self.generation.replace(generation) != Some(generation) {
            self.confirmed = false;
        }
    }

    fn put_off(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8));
        self.try_at = Instant::now() + pause.min(LONGEST_PAUSE);
        self.failures += 1;
    }

    /// Returns whether the shard is to be asked sooner than it was.
    fn learn(&mut self, now: Timestamp, next_due: Option<Timestamp>) -> bool {
        self.version += 1;
        let Some(next_due) = next_due else {
            return false;
        };
        self.next_due = Some(self.next_due.map_or(next_due, |known| known.min(next_due)));
        let ask_at = Instant::now().checked_add(next_due.since(now));
        let is_sooner = ask_at.is_some_and(|at| at < self.ask_at);
        if let Some(at) = ask_at.filter(|_| is_sooner) {
            self.ask_at = at;
        }
        is_sooner
    }
}

/// The keys that `lua/lanes.lua` names. The tag in braces keeps a shard in one slot of a cluster; the count is part
/// of it because with another count the lanes are elsewhere.
fn keys(prefix: &str, shard: usize, count: usize) -> [String; 5] {
    ["", ":turns", ":timers", ":leases", ":lanes"]
        .map(|suffix| format!("{{{prefix}:{shard}/{count}}}{suffix}"))
}

/// Who announces, for which shard, its time, and when something falls due.
fn announcement(message: &[u8]) -> Option<(&str, usize, Timestamp, Timestamp)> {
    let mut parts = std::str::from_utf8(message).ok()?.split(' ');
    let (announcer, shard) = (parts.next()?, parts.next()?.parse().ok()?);
    let mut time = || Some(Timestamp::from_micros(parts.next()?.parse().ok()?));
    Some((announcer, shard, time()?, time()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(30);

    fn answer(next_due: Option<i64>) -> Answer {
        Answer {
            generation: 1,
            now: Timestamp::from_seconds(100),
            next_due: next_due.map(Timestamp::from_seconds),
            result: vec![],
        }
    }

    fn asked(shards: &Shards) -> Vec<usize> {
        let asked = shards.worth_asking(false);
        asked.into_iter().map(|asked| asked.shard).collect()
    }

    fn generations(shards: &Shards) -> Vec<Option<i64>> {
        let parts = shards.parts().into_iter();
        parts.map(|part| part.generation).collect()
    }

    /// Asks all and learns that nothing waits.
    fn fall_silent(shards: &Shards) {
        for asked in shards.worth_asking(true) {
            shards.claimed(asked, &answer(None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_shard_is_asked_once_in_a_while() {
        let shards = Shards::new("p", 2, POLL, "us");
        assert_eq!(asked(&shards), [0, 1]);
        assert_eq!(asked(&shards), [1, 0], "they take turns");
        fall_silent(&shards);
        assert!(asked(&shards).is_empty());
        tokio::time::advance(2 * POLL).await;
        assert_eq!(asked(&shards).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_is_asked_when_something_falls_due() {
        let shards = Shards::new("p", 2, POLL, "us");
        fall_silent(&shards);
        shards.heard(1, &answer(Some(110)));
        assert!(asked(&shards).is_empty());
        assert_eq!(shards.next_due(), Some(Timestamp::from_seconds(110)));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(asked(&shards), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_announcement_or_a_gap_makes_shards_worth_asking() {
        let shards = Shards::new("p", 2, POLL, "us");
        fall_silent(&shards);
        for nonsense in ["", "us 0 100 100", "it 2 0 0", "it x 0 0", "it 0 0"] {
            shards.announced(nonsense.as_bytes());
        }
        assert!(asked(&shards).is_empty());
        shards.announced(b"it 0 100 100");
        assert_eq!(asked(&shards), [0]);
        shards.ready().await;
        fall_silent(&shards);
        shards.doubt();
        assert_eq!(asked(&shards).len(), 2);
        assert!(generations(&shards).iter().all(Option::is_none));
        shards.ready().await;
    }

    #[tokio::test(start_paused = true)]
    async fn claims_go_without_a_shard_that_fails() {
        let shards = Shards::new("p", 2, POLL, "us");
        shards.failed(1);
        assert_eq!(asked(&shards), [0]);
        for pause in [500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            assert!(shards.to_try().is_empty());
            tokio::time::advance(Duration::from_millis(pause)).await;
            assert_eq!(shards.to_try(), [1]);
        }
        shards.failed(0);
        assert_eq!(asked(&shards).len(), 2, "there is no other to go on with");
        shards.heard(1, &answer(Some(100)));
        shards.ready().await;
        assert_eq!(asked(&shards), [1]);
        assert!(shards.to_try().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_undo_what_was_heard_meanwhile() {
        let shards = Shards::new("p", 1, POLL, "us");
        let under_way = shards.worth_asking(true)[0];
        shards.announced(b"it 0 100 100");
        shards.claimed(under_way, &answer(None));
        assert_eq!(asked(&shards), [0]);
    }

    #[tokio::test]
    async fn a_lane_stays_in_its_shard_and_lanes_are_spread() {
        let shards = Shards::new("p", 16, POLL, "us");
        assert_eq!(shards.of(Uuid::from_u128(1)), 5);
        let mut counts = [0; 16];
        for lane in 0..1_600_u128 {
            counts[shards.of(Uuid::from_u128(lane))] += 1;
        }
        assert!(
            counts.iter().all(|count| (60..140).contains(count)),
            "{counts:?}"
        );
    }

    #[tokio::test]
    async fn a_shard_is_of_no_generation_until_it_confirms_it() {
        let shards = Shards::new("p", 2, POLL, "us");
        fall_silent(&shards);
        assert_eq!(generations(&shards), [None, None]);
        (0..2).for_each(|shard| shards.confirmed(shard, 1));
        assert_eq!(generations(&shards), [Some(1), Some(1)]);
        let lost = Answer {
            generation: 2,
            ..answer(None)
        };
        shards.heard(1, &lost);
        assert_eq!(generations(&shards), [Some(1), None]);
        shards.confirmed(1, 2);
        assert_eq!(generations(&shards), [Some(1), Some(2)]);
        shards.doubt();
        assert_eq!(generations(&shards), [None, None]);
        let names = shards.parts().into_iter().map(|part| part.name);
        assert!(names.eq(["p:0/2", "p:1/2"]));
    }
}
