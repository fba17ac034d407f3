//! The HTTP API of the engine as an axum router, and an extractor that verifies webhooks.
//!
//! [`router`] nests into any host's router, whatever the host's state is. The host says who may call it when it builds the
//! router; there is no default that leaves it open.
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
//! - `router.rs` puts the routes together. `routes/` has one file per resource.
//! - `auth.rs` finds out who calls. `caller.rs` limits what they may see and do.
//! - `extract.rs` reads bodies, ids and queries, `json.rs` parses JSON strictly, and `page.rs` pages lists.
//! - `error.rs` answers failed requests.
//! - `openapi/` makes the OpenAPI document. Each handler and type has its own part of it beside it.
//! - `metrics.rs` serves the engine's metrics to Prometheus.
//! - `dashboard/` is the web UI, one file per screen.
//! - `verified.rs` is for services that receive webhooks.

#![cfg_attr(docsrs, feature(doc_cfg))]

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
#[doc(hidden)]
pub use page::cursor_again;
pub use router::{probes, router};
pub use verified::{Deduplicate, Verified, VerifiedBytes, VerifiedRejection, deduplicate};
