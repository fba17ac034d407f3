//! Names to vetted addresses.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::policy::NetworkPolicy;
use crate::error::BoxError;

/// Looks names up. The transport judges the answers and dials only what it judged.
///
/// The contract:
/// - `name` is absolute: it ends in a dot, and search domains must not be tried.
/// - All addresses are returned, forbidden ones too: one of them forbids the name.
/// - No address at all is an error, or an empty list; both count as a failed look-up.
/// - A look-up may be dropped before it is done: the transport has a time limit.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses of `name`.
    ///
    /// # Errors
    /// When the name does not exist or no server answered.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver (`getaddrinfo`).
///
/// It blocks a thread for each look-up and cannot be told to stop. So at most
/// [`MAX_LOOKUPS`](Self::MAX_LOOKUPS) run at a time, those counted in that nobody waits for any more:
/// names whose servers never answer cannot use up the runtime's blocking threads.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl SystemResolver {
    /// Look-ups at a time. The runtime has 512 blocking threads by default.
    pub const MAX_LOOKUPS: usize = 128;
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(Self::MAX_LOOKUPS)),
        }
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.lookups)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let name = name.to_owned();
        let lookup = move || {
            let _until_the_thread_is_free = permit;
            let addresses = (name.as_str(), 0).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        };
        tokio::task::spawn_blocking(lookup)
            .await
            .map_err(io::Error::other)?
    }
}

/// No address was found. The source says why.
#[derive(Debug, thiserror::Error)]
#[error("the look-up failed")]
pub(crate) struct LookupFailed(#[source] BoxError);

/// What the HTTP clients resolve with: one look-up for a connection, all answers judged, and the judged
/// addresses are the ones that are dialled.
#[derive(Clone)]
pub(crate) struct Guard {
    policy: Arc<NetworkPolicy>,
    resolver: Arc<dyn Resolve>,
    timeout: Duration,
}

impl Guard {
    /// Addresses that are tried for one connection.
    const MAX_ADDRESSES: usize = 8;

    pub(crate) fn new(
        policy: Arc<NetworkPolicy>,
        resolver: Arc<dyn Resolve>,
        timeout: Duration,
    ) -> Self {
        Self {
            policy,
            resolver,
            timeout,
        }
    }

    /// The addresses of a target, of which all are permitted.
    pub(crate) async fn vetted(&self, name: &str) -> Result<Vec<IpAddr>, BoxError> {
        let mut answers = self.looked_up(name).await?;
        self.policy.check_answers(&answers)?;
        answers.truncate(Self::MAX_ADDRESSES);
        Ok(answers)
    }

    /// The addresses of a name that nobody judges: that of the host's own proxy.
    pub(crate) async fn looked_up(&self, name: &str) -> Result<Vec<IpAddr>, BoxError> {
        let answers = match tokio::time::timeout(
            self.timeout,
            self.resolver.resolve(&absolute(name)),
        )
        .await
        {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => return Err(LookupFailed(error.into()).into()),
            Err(elapsed) => return Err(LookupFailed(elapsed.into()).into()),
        };
        if answers.is_empty() {
            return Err(LookupFailed("the name has no address".into()).into());
        }
        Ok(answers)
    }
}

/// The name with a trailing dot, so that no search domain is tried.
fn absolute(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    format!("{name}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with the first `n` addresses after 93.184.216.0, if asked for an absolute name.
    struct Counting(u8);

    #[async_trait]
    impl Resolve for Counting {
        async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            assert_eq!(name, "hooks.example.com.");
            Ok((0..self.0).map(|n| [93, 184, 216, n].into()).collect())
        }
    }

    fn guard(resolver: impl Resolve + 'static) -> Guard {
        Guard::new(Arc::default(), Arc::new(resolver), Duration::from_secs(5))
    }

    #[tokio::test]
    async fn only_the_first_eight_addresses_are_tried() {
        for (answers, tried) in [(1, 1), (8, 8), (9, 8), (255, 8)] {
            let vetted = guard(Counting(answers)).vetted("hooks.example.com").await;
            assert_eq!(vetted.unwrap().len(), tried);
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_as_absolute_ones() {
        for name in ["hooks.example.com", "hooks.example.com."] {
            assert!(guard(Counting(1)).vetted(name).await.is_ok());
        }
    }

    #[tokio::test]
    async fn no_address_is_a_failed_lookup() {
        let error = guard(Counting(0)).vetted("hooks.example.com").await;
        assert!(error.unwrap_err().is::<LookupFailed>());
    }

    #[tokio::test]
    async fn the_system_resolver_finds_loopback() {
        let found = SystemResolver::default().resolve("localhost").await;
        assert!(found.unwrap().iter().all(IpAddr::is_loopback));
    }
}
