//! The HTTP API of the engine as an axum router, and an extractor that verifies webhooks.
//!
//! [`router`] nests into any host's router, whatever the host's state is. Who may call it is chosen when it
//! is built: there is no default that leaves it open.
//!
//! ```
//! use axum::Router;
//! use axum::routing::get;
//! use webhook_axum::Auth;
//! # use webhook_core::testing::ScriptedTransport;
//! use webhook_core::{Dispatcher, MemoryStore};
//!
//! #[derive(Clone)]
//! struct Shop;
//!
//! let dispatcher = Dispatcher::builder(MemoryStore::new())
//! #   .transport(ScriptedTransport::default())
//!     .build()?;
//! let auth = Auth::bearer("a-long-random-token")?;
//!
//! let app: Router = Router::new()
//!     .route("/orders", get(|| async { "none yet" }))
//!     .nest("/webhooks", webhook_axum::router(dispatcher, auth))
//!     .with_state(Shop);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - `router.rs`: the routes put together; `routes/`: one file per resource.
//! - `auth.rs`: who calls; `caller.rs`: what they may see and touch.
//! - `extract.rs`: bodies, ids and queries; `json.rs`: JSON taken strictly; `page.rs`: lists.
//! - `error.rs`: what a failed request is answered with.
//! - `openapi/`: the document of all that; each handler and type has its own part beside it.
//! - `metrics.rs`: the engine's metrics for Prometheus.
//! - `dashboard/`: the web UI, one file per screen.
//! - `verified.rs`: the receiving side.

mod auth;
mod caller;
#[cfg(feature = "dashboard")]
mod dashboard;
mod error;
mod extract;
mod finish;
mod json;
#[cfg(feature = "prometheus")]
mod metrics;
#[cfg(feature = "openapi")]
mod openapi;
mod page;
mod router;
mod routes;
mod verified;

pub use auth::{Auth, AuthRejection, Authorizer, Identity, InvalidToken, Role};
#[cfg(feature = "prometheus")]
pub use metrics::{InstallError, Metrics};
#[cfg(feature = "openapi")]
pub use openapi::openapi;
pub use router::{probes, router};
pub use verified::{Deduplicate, Verified, VerifiedBytes, VerifiedRejection, deduplicate};
