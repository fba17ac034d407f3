//! Recognises a request that was recorded and sent again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Remembers verified requests by `webhook-id` and `webhook-timestamp`.
///
/// The contract:
/// - Finding out and remembering is **one atomic step**: of any number of concurrent calls with the
///   same key, in all processes that share the guard, one gets `true`.
/// - A key is remembered at least until `now + ttl`, that instant included. [`Receiver`] passes twice
///   its verifier's tolerance: a request is good from `timestamp - tolerance` to
///   `timestamp + tolerance`, so one that is forgotten is also too old.
/// - When it cannot remember, it fails: a guard that forgets under load protects nobody.
///
/// In Redis this is `SET key 1 NX PX ttl`; in SQL an `INSERT … ON CONFLICT DO NOTHING`, swept by age.
///
/// [`Receiver`]: crate::Receiver
#[async_trait]
pub trait ReplayGuard: Send + Sync {
    /// Remembers the request; `true` if it was not known. `now` is the receiver's time.
    ///
    /// # Errors
    /// When it cannot tell or cannot remember. The request must then not be acted on.
    async fn first_seen(
        &self,
        id: &str,
        timestamp: Timestamp,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<bool>;
}

/// Shares a guard, between the receivers before and after a change of keys for example.
#[async_trait]
impl<G: ReplayGuard + ?Sized> ReplayGuard for Arc<G> {
    async fn first_seen(
        &self,
        id: &str,
        timestamp: Timestamp,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<bool> {
        (**self).first_seen(id, timestamp, ttl, now).await
    }
}

/// A guard for one process, in memory.
///
/// Holds up to a given number of requests and fails, as [`ErrorKind::Unavailable`], for more until
/// some expire; only verified requests take a place. It needs the requests of twice the tolerance:
/// 100,000 places are 166 requests per second at the default.
pub struct MemoryReplayGuard {
    max_entries: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    keys: HashSet<Arc<Key>>,
    /// The same keys by when they expire, the next one on top.
    expiring: BinaryHeap<Reverse<(Timestamp, Arc<Key>)>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    id: Box<str>,
    timestamp: Timestamp,
}

impl MemoryReplayGuard {
    /// A guard that remembers up to `max_entries` requests at a time, of at most some 500 bytes each.
    #[must_use]
    pub fn new(max_entries: usize) -> Self {
        Self {
            max_entries,
            seen: Mutex::default(),
        }
    }
}

#[async_trait]
impl ReplayGuard for MemoryReplayGuard {
    async fn first_seen(
        &self,
        id: &str,
        timestamp: Timestamp,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<bool> {
        let id = id.into();
        let key = Arc::new(Key { id, timestamp });
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.expire(now);
        if seen.keys.contains(&key) {
            return Ok(false);
        }
        if seen.keys.len() >= self.max_entries {
            return Err(Error::new(ErrorKind::Unavailable, "first_seen"));
        }
        seen.expiring.push(Reverse((now + ttl, Arc::clone(&key))));
        seen.keys.insert(key);
        Ok(true)
    }
}

impl Seen {
    fn expire(&mut self, now: Timestamp) {
        while let Some(Reverse((expires, _))) = self.expiring.peek()
            && *expires < now
        {
            if let Some(Reverse((_, key))) = self.expiring.pop() {
                self.keys.remove(&key);
            }
        }
    }
}

impl fmt::Debug for MemoryReplayGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReplayGuard")
            .field("max_entries", &self.max_entries)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Timestamp = Timestamp::from_seconds(1_000);
    const TTL: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn the_same_request_is_seen_once_and_a_retry_is_another() {
        let guard = MemoryReplayGuard::new(10);
        let later = SENT + Duration::from_secs(5);
        assert!(guard.first_seen("a", SENT, TTL, SENT).await.unwrap());
        assert!(!guard.first_seen("a", SENT, TTL, later).await.unwrap());
        assert!(guard.first_seen("a", later, TTL, later).await.unwrap());
        assert!(guard.first_seen("b", SENT, TTL, later).await.unwrap());
    }

    #[tokio::test]
    async fn a_request_is_remembered_to_the_last_instant_of_its_time() {
        let guard = MemoryReplayGuard::new(10);
        assert!(guard.first_seen("a", SENT, TTL, SENT).await.unwrap());
        let end = SENT + TTL;
        assert!(!guard.first_seen("a", SENT, TTL, end).await.unwrap());
        let after = end + Duration::from_micros(1);
        assert!(guard.first_seen("a", SENT, TTL, after).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_guard_fails_and_takes_more_when_some_expired() {
        let guard = MemoryReplayGuard::new(1);
        assert!(guard.first_seen("a", SENT, TTL, SENT).await.unwrap());
        let full = guard.first_seen("b", SENT, TTL, SENT).await.unwrap_err();
        assert!(full.is_retryable());
        assert!(!guard.first_seen("a", SENT, TTL, SENT).await.unwrap());
        let after = SENT + TTL + Duration::from_secs(1);
        assert!(guard.first_seen("b", SENT, TTL, after).await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_concurrent_calls_one_is_first() {
        let guard = Arc::new(MemoryReplayGuard::new(10));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let guard = Arc::clone(&guard);
            calls.spawn(async move { guard.first_seen("a", SENT, TTL, SENT).await.unwrap() });
        }
        let firsts = calls.join_all().await.into_iter().filter(|first| *first);
        assert_eq!(firsts.count(), 1);
    }
}
