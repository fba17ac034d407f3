//! Names to vetted addresses.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::policy::NetworkPolicy;
use super::system::NoPermit;
use crate::error::BoxError;

/// Looks names up. The transport judges the answers and dials only what it judged.
///
/// The contract:
/// - `name` is absolute: it ends in a dot, and search domains must not be tried.
/// - All addresses are returned, forbidden ones too: one of them forbids the name.
/// - No address at all is an error, or an empty list; both count as a failed look-up.
/// - A look-up may be dropped before it is done: the transport has a time limit.
/// - Names come from tenants. One whose servers never answer must not keep others from being looked up.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses of `name`.
    ///
    /// # Errors
    /// When the name does not exist or no server answered.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// No address was found. The source says why.
#[derive(Debug, thiserror::Error)]
#[error("the look-up failed")]
pub(crate) struct LookupFailed(#[source] pub(crate) BoxError);

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
            Ok(Err(error)) if is_ours(&error) => return Err(NoPermit.into()),
            Ok(Err(error)) => return Err(LookupFailed(error.into()).into()),
            Err(elapsed) => return Err(LookupFailed(elapsed.into()).into()),
        };
        if answers.is_empty() {
            return Err(LookupFailed("the name has no address".into()).into());
        }
        Ok(answers)
    }
}

/// Whether the look-up did not even begin.
fn is_ours(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn StdError + Send + Sync>::is::<NoPermit>)
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
    async fn a_lookup_that_did_not_begin_is_no_failed_one() {
        struct Busy;
        #[async_trait]
        impl Resolve for Busy {
            async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
                Err(io::Error::other(NoPermit))
            }
        }
        let error = guard(Busy).vetted("hooks.example.com").await.unwrap_err();
        assert!(error.is::<NoPermit>());
    }

    #[tokio::test]
    async fn no_address_is_a_failed_lookup() {
        let error = guard(Counting(0)).vetted("hooks.example.com").await;
        assert!(error.unwrap_err().is::<LookupFailed>());
    }
}
