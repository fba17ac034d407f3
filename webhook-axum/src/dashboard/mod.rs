//! The dashboard, for people. The server renders it, and it works without a script.
//!
//! - `session.rs` says who may see it, and what every form must prove. `shell.rs` has what all pages share.
//! - `assets.rs` serves the style and the script. `format.rs` formats numbers and times. `chart.rs` draws charts as SVG.
//! - There is one file per screen: `overview.rs`, `endpoints.rs`, `deliveries.rs`, `events.rs`, `dead_letters.rs`, `replays.rs`,
//!   `event_types.rs`, `audit.rs`. Templates are in `templates/`, one per screen.
//! - `names.rs` finds endpoints by their ids. `resting.rs` lists those that get nothing. `holds.rs` says why due deliveries do
//!   not go out.
//! - `selected.rs` says in words what a replay selects.
//! - `outage.rs` says what can be said while the store is away.
//! - `live.rs` tells open pages that something has changed.
//!
//! Handlers reach the engine through [`Caller`](crate::caller::Caller), as those of the API do.

mod assets;
mod audit;
mod chart;
mod dead_letters;
mod deliveries;
mod endpoints;
mod event_types;
mod events;
mod format;
mod holds;
mod live;
mod names;
mod outage;
mod overview;
mod replays;
mod resting;
mod selected;
mod session;
mod shell;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::any;

use crate::router::Api;

pub(crate) use shell::Refusal;

/// What one router's dashboard spends on its readers, all together.
#[derive(Default)]
pub(crate) struct Limits {
    live: live::Room,
    outage: outage::Outage,
    resting: resting::LastRound,
}

/// Every page, behind the layer that lets in who may.
pub(crate) fn routes(api: &Api) -> Router<Api> {
    overview::routes()
        .merge(endpoints::routes())
        .merge(deliveries::routes())
        .merge(events::routes())
        .merge(dead_letters::routes())
        .merge(replays::routes())
        .merge(event_types::routes())
        .merge(audit::routes())
        .merge(live::routes())
        .route("/dashboard/{*path}", any(shell::unknown))
        .route_layer(from_fn_with_state(api.clone(), session::guard))
        .merge(session::routes())
        .merge(assets::routes())
        .method_not_allowed_fallback(shell::wrong_method)
        .layer(map_response(shell::secure))
}
