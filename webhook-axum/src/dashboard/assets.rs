//! The style and the script. They are part of the binary, and named by their content, so that browsers can cache them.

use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::router::Api;

const STYLE: &str = include_str!("../../assets/dashboard.css");
const SCRIPT: &str = include_str!("../../assets/dashboard.js");

static STYLE_TAG: LazyLock<String> = LazyLock::new(|| tag(STYLE));
static SCRIPT_TAG: LazyLock<String> = LazyLock::new(|| tag(SCRIPT));

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/dashboard/dashboard.css", get(style))
        .route("/dashboard/dashboard.js", get(script))
}

/// What changes with the style's content, for its URL.
pub(super) fn style_tag() -> &'static str {
    &STYLE_TAG
}

/// What changes with the script's content, for its URL.
pub(super) fn script_tag() -> &'static str {
    &SCRIPT_TAG
}

async fn style(headers: HeaderMap) -> Response {
    asset(&headers, "text/css; charset=utf-8", STYLE, style_tag())
}

async fn script(headers: HeaderMap) -> Response {
    asset(
        &headers,
        "text/javascript; charset=utf-8",
        SCRIPT,
        script_tag(),
    )
}

fn asset(asked: &HeaderMap, kind: &'static str, text: &'static str, tag: &str) -> Response {
    let tag = format!("\"{tag}\"");
    let known = asked.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CACHE_CONTROL, "max-age=86400".to_owned()),
        (header::ETAG, tag),
    ];
    if is_known {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, text).into_response()
    }
}

/// Another one for another text, and always the same for the same: also in other processes, and other versions.
pub(super) fn tag(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
