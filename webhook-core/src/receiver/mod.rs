//! The receiving side: what a service needs to take webhooks safely.
//!
//! Two protections, apart because they answer different questions:
//!
//! | | [`ReplayGuard`] | [`Deduplicator`] |
//! |---|---|---|
//! | asks | has this very request been here? | has this event been handled? |
//! | against | an attacker who sends a recorded request again | the sender's own repeats |
//! | key | `webhook-id` and `webhook-timestamp` | `webhook-id` |
//! | marks | before the handler, once verified | after the handler's success |
//! | remembers | twice the tolerance | as long as a sender may repeat: days |
//! | says to a repeat | 401 | 200, without running the handler |
//!
//! A sender that tries again keeps the id and signs a **new timestamp**. So a retry after our 500, or
//! after our 200 got lost, passes the replay guard, and the deduplicator decides: it lets in what was
//! not handled and answers 200 for what was. What the guard refuses is a copy of the same attempt;
//! should an innocent proxy have made it, the sender's next try settles the matter. So a 401 from the
//! guard never loses an event, with a sender that retries after a 401 as ours does.
//!
//! Two attempts of one event within one second are one and the same to the guard: when one event goes
//! to two endpoints with the same URL, the second is refused at first and let in when it is retried.

mod dedupe;
mod replay_guard;

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

pub use dedupe::{Begin, Deduplicator, Handling, MemoryDeduplicator};
pub use replay_guard::{MemoryReplayGuard, ReplayGuard};

use crate::error::Error;
use crate::signing::{VerifiedHeaders, Verifier, VerifyError};
use crate::time::{Clock, SystemClock, Timestamp};

/// The longest body that is read, unless set otherwise: 1 MiB.
pub const DEFAULT_MAX_BODY: usize = 1024 * 1024;

/// Decides whether a request is a webhook to act on: a [`Verifier`], a clock, and a [`ReplayGuard`] if
/// the host gives one. Framework adapters are built on it; a clone shares everything.
///
/// ```
/// use webhook_core::{MemoryReplayGuard, Receiver, Verifier, VerifyingKey};
///
/// let key: VerifyingKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let receiver = Receiver::builder(Verifier::new(key))
///     .replay_guard(MemoryReplayGuard::new(100_000))
///     .build();
/// # Ok::<(), webhook_core::InvalidSecret>(())
/// ```
#[derive(Clone)]
pub struct Receiver(Arc<ReceiverBuilder>);

/// Makes a [`Receiver`].
pub struct ReceiverBuilder {
    verifier: Verifier,
    replay_guard: Option<Arc<dyn ReplayGuard>>,
    clock: Arc<dyn Clock>,
    max_body: usize,
}

/// The request is not to be acted on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// It is not signed by a key of ours, or not recent. Answer 401.
    #[error("the webhook is not to be trusted: {0}")]
    Unverified(VerifyError),
    /// This very attempt was here before. Answer 401.
    #[error("this webhook was received before")]
    Replayed,
    /// The replay guard could not say. Answer 503: the sender tries again.
    #[error("the replay guard failed")]
    Unavailable(#[source] Error),
}

impl Receiver {
    /// Starts with a verifier; no replay guard, the system's clock, bodies up to 1 MiB.
    #[must_use]
    pub fn builder(verifier: Verifier) -> ReceiverBuilder {
        ReceiverBuilder {
            verifier,
            replay_guard: None,
            clock: Arc::new(SystemClock),
            max_body: DEFAULT_MAX_BODY,
        }
    }

    /// Verifies a request and, with a replay guard, that it has not been here before; `body` is the
    /// raw body.
    ///
    /// Ask once per request: with a guard, the second time is a replay.
    ///
    /// # Errors
    /// When the request is not to be acted on.
    pub async fn receive(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<VerifiedHeaders, ReceiveError> {
        let now = self.now();
        let verified = self
            .0
            .verifier
            .verify(headers, body, now)
            .map_err(ReceiveError::Unverified)?;
        if let Some(guard) = &self.0.replay_guard {
            let ttl = self.0.verifier.replay_window();
            let first = guard
                .first_seen(&verified.id, verified.timestamp, ttl, now)
                .await
                .map_err(ReceiveError::Unavailable)?;
            if !first {
                return Err(ReceiveError::Replayed);
            }
        }
        Ok(verified)
    }

    /// The receiver's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The longest body that is to be read before verifying, in bytes.
    #[must_use]
    pub fn max_body(&self) -> usize {
        self.0.max_body
    }

    /// Whether both are clones of one receiver, so that what one has verified holds for the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl ReceiverBuilder {
    /// Refuses requests that were here before, within twice the verifier's tolerance; later they are
    /// refused as too old.
    #[must_use]
    pub fn replay_guard(mut self, guard: impl ReplayGuard + 'static) -> Self {
        self.replay_guard = Some(Arc::new(guard));
        self
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Reads bodies of up to so many bytes; longer ones are refused unread.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// The receiver.
    #[must_use]
    pub fn build(self) -> Receiver {
        Receiver(Arc::new(self))
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.0).finish()
    }
}

impl fmt::Debug for ReceiverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverBuilder")
            .field("verifier", &self.verifier)
            .field("replay_guard", &self.replay_guard.is_some())
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::signing::{Secret, SignRequest, Signer as _, StandardWebhooks};
    use crate::time::Now;

    const SENT: Timestamp = Timestamp::from_seconds(1_614_265_330);

    /// A clock that stands still.
    struct At(Timestamp);

    #[async_trait]
    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }

        fn pinned(&self) -> Now {
            Some(self.0)
        }

        async fn sleep(&self, _by: Duration) {
            unreachable!("receivers do not wait");
        }
    }

    /// Notes what it is asked.
    #[derive(Clone, Default)]
    struct Asked(Arc<Mutex<Vec<Call>>>);

    type Call = (String, Timestamp, Duration, Timestamp);

    #[async_trait]
    impl ReplayGuard for Asked {
        async fn first_seen(
            &self,
            id: &str,
            timestamp: Timestamp,
            ttl: Duration,
            now: Timestamp,
        ) -> crate::Result<bool> {
            let asked = (id.to_owned(), timestamp, ttl, now);
            self.0.lock().unwrap().push(asked);
            Ok(true)
        }
    }

    fn secret() -> Secret {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
    }

    fn signed() -> HeaderMap {
        let (secrets, mut headers) = ([secret()], HeaderMap::new());
        let request = SignRequest::new("evt_1", SENT, b"{}", &secrets);
        StandardWebhooks::new()
            .sign(&request, &mut headers)
            .unwrap();
        headers
    }

    #[tokio::test]
    async fn the_guard_remembers_for_twice_the_tolerance_and_only_what_is_verified() {
        let (asked, now) = (Asked::default(), SENT + Duration::from_secs(30));
        let receiver =
            Receiver::builder(Verifier::new(secret()).tolerance(Duration::from_secs(60)))
                .replay_guard(asked.clone())
                .clock(At(now))
                .build();
        assert!(receiver.receive(&signed(), b"{}").await.is_ok());
        let tampered = receiver.receive(&signed(), b"[]").await;
        assert!(matches!(
            tampered,
            Err(ReceiveError::Unverified(VerifyError::NoMatch))
        ));
        let expected = ("evt_1".to_owned(), SENT, Duration::from_secs(120), now);
        assert_eq!(*asked.0.lock().unwrap(), [expected]);
    }

    #[tokio::test]
    async fn a_request_from_the_future_is_remembered_until_it_is_too_old() {
        let guard = Arc::new(MemoryReplayGuard::new(10));
        let tolerance = Duration::from_secs(300);
        // Seen as early and again as late as the verifier lets it.
        for (now, first) in [(SENT - tolerance, true), (SENT + tolerance, false)] {
            let receiver = Receiver::builder(Verifier::new(secret()))
                .replay_guard(Arc::clone(&guard))
                .clock(At(now))
                .build();
            let received = receiver.receive(&signed(), b"{}").await;
            assert_eq!(received.is_ok(), first, "{received:?}");
        }
    }
}
