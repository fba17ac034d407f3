//! A store that a test can hold up, or let fail.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::Result;

type Hook = dyn Fn(&'static str) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync;

/// A store that asks `hook` before each call: it may wait, count, or fail the call.
///
/// ```
/// use webhook_core::testing::{Intercepted, run};
/// use webhook_core::{Error, ErrorKind, MemoryStore, Store};
///
/// let away = Intercepted::new(MemoryStore::new(), |operation| async move {
///     Err(Error::new(ErrorKind::Unavailable, operation))
/// });
/// assert!(run(away.ping()).is_err());
/// ```
#[derive(Clone)]
pub struct Intercepted<S> {
    store: S,
    hook: Arc<Hook>,
}

/// By hand: a hook has nothing to show.
impl<S: fmt::Debug> fmt::Debug for Intercepted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercepted")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl<S> Intercepted<S> {
    /// `store`, with `hook` called with the method's name before each call but `queue`.
    pub fn new<F>(store: S, hook: impl Fn(&'static str) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self {
            store,
            hook: Arc::new(move |operation| Box::pin(hook(operation))),
        }
    }

    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        (self.hook)(operation).await?;
        call.await
    }
}

/// The store behind.
impl<S> Deref for Intercepted<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.store
    }
}
