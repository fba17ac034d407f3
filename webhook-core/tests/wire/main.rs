//! What goes over the wire and what comes back, the same for each of the guarded transports.
#![cfg(any(feature = "hyper", feature = "reqwest"))]
#![allow(clippy::unwrap_used, reason = "test helpers are tests too")]
#![allow(
    clippy::duplicate_mod,
    reason = "each transport is to pass the same tests"
)]

/// What the tests below build and are of.
macro_rules! guarded {
    ($transport:ident, $build:ident) => {
        pub(crate) type Guarded = webhook_core::$transport;

        /// Builds it.
        pub(crate) trait Guards {
            fn guarded(self) -> Result<Guarded, webhook_core::BuildTransportError>;
        }

        impl Guards for webhook_core::HttpTransportBuilder {
            fn guarded(self) -> Result<Guarded, webhook_core::BuildTransportError> {
                self.$build()
            }
        }
    };
}

#[cfg(feature = "hyper")]
#[path = "."]
mod over_hyper {
    mod connections;
    mod hostile;
    mod proxy;

    guarded!(HttpTransport, build);

    /// Whether a flood of interim answers ends before the deadline.
    const INTERIM_ARE_COUNTED: bool = true;
}

#[cfg(feature = "hyper")]
mod timings;

#[cfg(feature = "reqwest")]
#[path = "."]
mod over_reqwest {
    mod connections;
    mod hostile;
    mod proxy;

    guarded!(ReqwestTransport, build_reqwest);

    const INTERIM_ARE_COUNTED: bool = false;
}
