//! What a backend answers when it cannot do what it was asked.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Any error, boxed: what a backend's own driver reports.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A result whose error is a backend's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong in a [`Store`](crate::Store) or a [`Queue`](crate::Queue), and in which operation.
///
/// `Display` names the kind and the operation and never prints the source, so that a chain printed by
/// a host's error reporter does not repeat itself.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The classes of backend errors, by what a caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The backend cannot be reached, or cannot do its work now. Retrying later may succeed.
    Unavailable,
    /// The backend is there, and as much is asked of it at once as it does for people: searches, lists and statistics
    /// wait for their turn, and this one's did not come in time. Nothing was begun; retrying in a moment is right, and
    /// nobody has to be woken for it.
    Overloaded,
    /// Another transaction holds what this call needs, such as an idempotency key, and has not ended in time. Nothing was
    /// done; once that transaction has ended, the same call will succeed.
    Locked,
    /// The backend refuses this very input; the same call will fail again.
    Rejected,
    /// What is stored cannot be read back. Retrying will not help; a person must look.
    Corrupt,
    /// An endpoint's secrets are sealed with a key that is not at hand. It stays as it is, and can be read again
    /// once the key is back.
    Sealed,
    /// A defect in a backend or in the engine.
    Internal,
}

impl Error {
    /// An error of `kind` in `operation`, the name of the trait method.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self {
            kind,
            operation,
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The class of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The trait method that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Locked
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the backend is unavailable",
            Self::Overloaded => "the backend has too much to look for at once",
            Self::Locked => "another transaction holds what it needs",
            Self::Rejected => "the backend refused the input",
            Self::Corrupt => "stored data cannot be read",
            Self::Sealed => "the secrets cannot be opened with the keys at hand",
            Self::Internal => "internal error",
        })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
