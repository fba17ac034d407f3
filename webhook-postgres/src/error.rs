//! Translates errors of sqlx into the engine's.

use webhook_core::{BoxError, Error, ErrorKind};

/// Classes of SQLSTATE that pass: connection, rollback (deadlock, serialization), resources, operator
/// intervention, system and lock trouble; 25006, a server that is, or has become, a replica; 25P03, a transaction
/// that was idle for too long; and 0A000, a migration changed the type of what a prepared statement returns.
const PASSING: [&str; 9] = [
    "08", "40", "53", "55", "57", "58", "25006", "25P03", "0A000",
];
/// SQLSTATEs after which a connection is good for nothing: the server ends it, does not write (any longer), or keeps
/// what it prepared before a migration.
const LOST: [&str; 5] = ["08", "57P", "25006", "25P03", "0A000"];
/// Classes of SQLSTATE for which the input is to blame.
const INPUT: [&str; 3] = ["22", "23", "54"];

/// The engine's error for one of sqlx in `operation`.
pub(crate) fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| Error::new(kind(&error), operation).with_source(error)
}

/// As many look for something as may at once, and none has finished in time.
pub(crate) fn overloaded() -> sqlx::Error {
    sqlx::Error::AnyDriverError(BoxError::from(Error::new(ErrorKind::Overloaded, "look")))
}

/// Another transaction holds what a statement needs, and has not ended in time.
pub(crate) fn locked() -> sqlx::Error {
    sqlx::Error::AnyDriverError(BoxError::from(Error::new(ErrorKind::Locked, "lock")))
}

/// Whether the server ended a statement that waited for another transaction for too long.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    has_code(error, "55P03")
}

/// Whether a row went to a default partition just when its own was made: to be told from a CHECK, which has
/// a name. A new statement finds the new partition.
pub(crate) fn is_misplaced(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("23514")
            && error.constraint().is_none()
            && error.table().is_some_and(|it| it.ends_with("_default"))
    })
}

/// Whether the server ended a transaction because it and others waited for each other. Nothing of it remains.
pub(crate) fn is_deadlock(error: &sqlx::Error) -> bool {
    has_code(error, "40P01")
}

/// Whether the server ended a statement that took too long, or was told to end it.
pub(crate) fn is_cut_off(error: &sqlx::Error) -> bool {
    has_code(error, "57014")
}

/// Whether the connection is to be closed, so that the next one leads to whoever is the primary then.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| LOST.iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| error.code().as_deref() == Some(code))
}

fn kind(error: &sqlx::Error) -> ErrorKind {
    match error {
        error if is_misplaced(error) => ErrorKind::Unavailable,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => ErrorKind::Unavailable,
        sqlx::Error::Database(error) => match error.code() {
            Some(code) if PASSING.iter().any(|class| code.starts_with(class)) => {
                ErrorKind::Unavailable
            }
            Some(code) if INPUT.iter().any(|class| code.starts_with(class)) => ErrorKind::Rejected,
            _ => ErrorKind::Internal,
        },
        sqlx::Error::AnyDriverError(error) => error
            .downcast_ref()
            .map_or(ErrorKind::Internal, Error::kind),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    }
}
