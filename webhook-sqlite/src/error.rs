//! Translates errors of SQLite into the engine's.

use sqlx::Error as SqlxError;
use webhook_core::{BoxError, Error, ErrorKind};

/// Turns a failure into the error of a trait's method.
pub(crate) fn failed(operation: &'static str) -> impl FnOnce(SqlxError) -> Error {
    move |error| Error::new(kind_of(&error), operation).with_source(error)
}

/// As many look for something as may at once, and none has finished in time.
pub(crate) fn overloaded() -> SqlxError {
    SqlxError::AnyDriverError(Error::new(ErrorKind::Overloaded, "look").into())
}

/// What core says of a row that it cannot read.
pub(crate) fn unreadable(error: Error) -> SqlxError {
    SqlxError::Decode(error.into())
}

/// What is stored cannot be read back.
pub(crate) fn corrupt(error: impl Into<BoxError>) -> SqlxError {
    SqlxError::Decode(error.into())
}

fn kind_of(error: &SqlxError) -> ErrorKind {
    match error {
        SqlxError::Database(error) => error
            .code()
            .and_then(|code| code.parse().ok())
            .map_or(ErrorKind::Internal, kind_of_code),
        SqlxError::Io(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed
        | SqlxError::BeginFailed => ErrorKind::Unavailable,
        SqlxError::AnyDriverError(error) => error
            .downcast_ref()
            .map_or(ErrorKind::Internal, Error::kind),
        SqlxError::Decode(error) => error.downcast_ref().map_or(ErrorKind::Corrupt, Error::kind),
        SqlxError::ColumnDecode { .. } => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    }
}

/// By SQLite's [result code](https://sqlite.org/rescode.html), whose lowest byte is the primary one.
fn kind_of_code(code: i32) -> ErrorKind {
    const PERM: i32 = 3;
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const NO_MEMORY: i32 = 7;
    const READ_ONLY: i32 = 8;
    const INTERRUPTED: i32 = 9;
    const IO: i32 = 10;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    const PROTOCOL: i32 = 15;
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    const NOT_A_DATABASE: i32 = 26;
    match code & 0xff {
        PERM | BUSY | LOCKED | NO_MEMORY | READ_ONLY | INTERRUPTED | IO | FULL | CANNOT_OPEN
        | PROTOCOL => ErrorKind::Unavailable,
        TOO_BIG | CONSTRAINT | MISMATCH => ErrorKind::Rejected,
        CORRUPT | NOT_A_DATABASE => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_says_whether_to_try_again() {
        const BUSY_SNAPSHOT: i32 = 517;
        const IO_FSYNC: i32 = 1034;
        const CONSTRAINT_UNIQUE: i32 = 2067;
        for (code, kind) in [
            (BUSY_SNAPSHOT, ErrorKind::Unavailable),
            (IO_FSYNC, ErrorKind::Unavailable),
            (13, ErrorKind::Unavailable),
            (CONSTRAINT_UNIQUE, ErrorKind::Rejected),
            (11, ErrorKind::Corrupt),
            (1, ErrorKind::Internal),
        ] {
            assert_eq!(kind_of_code(code), kind, "{code}");
        }
        let error = failed("claim")(SqlxError::PoolTimedOut);
        assert!(error.is_retryable() && error.operation() == "claim");
        assert_eq!(kind_of(&corrupt("spoilt")), ErrorKind::Corrupt);
        let sealed = unreadable(Error::new(ErrorKind::Sealed, "endpoint"));
        assert_eq!(kind_of(&sealed), ErrorKind::Sealed);
    }
}
