//! The webhook-delivery engine, without any database or web framework.
//!
//! - A host builds a [`Dispatcher`], hands it [`NewEvent`]s, and [runs](Dispatcher::run) it to deliver them.
//! - [`Store`] keeps events, endpoints and deliveries. [`Queue`] holds the deliveries that wait, and may be part of the
//!   store. [`MemoryStore`] is here; the stores on SQLite and Postgres and the queue on Redis are crates of their own.
//! - A host may replace the other seams: [`Transport`], [`Signer`], [`Clock`], [`Observer`], [`Propagation`].
//! - [`NetworkPolicy`] says where requests may go, and [`RetryPolicy`] and [`BreakerPolicy`] say when.
//! - For services that receive webhooks there are [`Verifier`] and [`Receiver`].

#![cfg_attr(docsrs, feature(doc_cfg))]

mod audit;
pub mod backend;
mod breaker;
mod catalogue;
mod delivery;
mod dispatcher;
mod encryption;
mod endpoint;
mod erasure;
mod error;
mod event;
mod filter;
mod forward;
mod header_log;
mod headers;
mod health;
mod id;
mod memory;
pub mod metrics;
mod network;
mod observer;
mod payload;
mod process;
mod queue;
mod receiver;
mod replay;
mod retry;
#[cfg(feature = "schemas")]
mod schema;
#[cfg(feature = "tower")]
mod service;
mod signing;
mod stats;
mod store;
mod tenant;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod time;
mod trace;
mod transport;
mod url;
mod why;

pub use audit::{AuditAction, AuditEntry, AuditFilter};
pub use breaker::{BreakerPolicy, InvalidBreaker};
pub use catalogue::{CatalogueEntry, InvalidEntry, NewCatalogueEntry, SchemaViolation, Schemas};
pub use delivery::{
    Attempt, Delivery, DeliveryStatus, EndReason, Failure, FailureCause, InvalidStatus, Outcome,
    UnknownWord,
};
pub use dispatcher::{
    Audit, BatchError, BuildError, Builder, Deliveries, Dispatcher, EndpointChange, Endpoints,
    EnqueueError, EventTypes, Events, MAX_BATCH, ManageError, ReplayCount, Replays, Step, Tenants,
    TestEvent, Tested,
};
pub use encryption::{EncryptionKey, InvalidKey, KeyId, KeyProvider, StaticKeys};
pub use endpoint::{
    Endpoint, EndpointSecret, EndpointSettings, EndpointState, InvalidSetting, InvalidState,
    LaneLimits, NewEndpoint, RateLimit, StateReason,
};
pub use erasure::ErasureStep;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use event::{Event, EventType, Idempotency, InvalidEvent, NewEvent};
pub use filter::{EventPattern, FilterMiss, InvalidFilter, InvalidPattern, PayloadFilter};
pub use header_log::{HeaderLog, InvalidHeaderLog};
pub use headers::{CustomHeaders, InvalidHeader};
pub use health::{BreakerChange, BreakerState, Health, HealthChange, Trip};
pub use id::delivery_id;
pub use memory::{MemoryQueue, MemoryStore, MemoryTx};
pub use network::{Blocked, InvalidNetwork, Network, NetworkPolicy, NetworkPolicyBuilder};
#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub use network::{Resolve, SystemResolver};
pub use observer::{Notice, Observer, Report};
pub use payload::{InvalidPayload, Payload};
pub use process::Process;
pub use queue::{ClaimOptions, Claimed, Depth, Hold, Job, Lease, Queue, QueuePart, Settle};
pub use receiver::{
    Begin, DEFAULT_MAX_BODY, Deduplicator, Handling, MemoryDeduplicator, MemoryReplayGuard,
    ReceiveError, Receiver, ReceiverBuilder, ReplayGuard,
};
pub use replay::{
    EndpointReplay, NewReplay, Replay, ReplayScan, ReplaySelection, ReplayState, ReplayStep,
    ReplayVerdict,
};
pub use retry::{Decision, Next, RetryPolicy, decide};
#[cfg(feature = "tower")]
pub use service::{ServiceTransport, TransportService};
pub use signing::{
    DEFAULT_TOLERANCE, HeaderNames, InvalidHeaderPrefix, InvalidSecret, Scheme, Secret, SignError,
    SignRequest, Signer, StandardWebhooks, VerifiedHeaders, Verifier, VerifyError, VerifyingKey,
};
pub use stats::{
    EndpointStats, Histogram, Rollup, STATS_TIERS, Stats, StatsCounts, StatsQuery, StatsRange,
    StatsRow, StatsTier, Tally, Trend,
};
pub use store::{
    Backlog, Changed, ClaimNew, DeliveryFilter, EndpointFilter, EventFilter, Fill, InsertOptions,
    Inserted, Insertion, Loaded, NewClaim, OnConflict, PoolUse, Record, Recorded, Rekeyed, Store,
    TxStore, Verdict, Vitals, Work,
};
pub use tenant::{InvalidTenant, Page, PageRequest, Scope, Tenant};
pub use time::{Clock, InvalidTimestamp, Now, SystemClock, Timestamp};
pub use trace::{InvalidTraceParent, Propagation, TraceParent};
#[cfg(feature = "hyper")]
pub use transport::http::HttpTransport;
#[cfg(feature = "reqwest")]
pub use transport::http::ReqwestTransport;
#[cfg(any(feature = "hyper", feature = "reqwest"))]
pub use transport::http::{BuildTransportError, HttpTransportBuilder, InvalidProxyUrl, ProxyUrl};
pub use transport::{
    RequestOptions, ResponseDetails, Transport, TransportError, TransportErrorKind,
};
pub use url::{EndpointUrl, InvalidEndpointUrl};
pub use why::{Basis, Judgement, MatchReason, Wait, Why};
