//! Without a token, the host that a request is for: a page in a browser of this machine reaches a loopback address as well,
//! by a name of its own that it lets lead there. Only the header `Host` tells it from a program.

use std::net::IpAddr;

use axum::Json;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Refuses what is for another host than this machine, but to the probes.
pub(crate) async fn only_this_machine(request: Request, next: Next) -> Response {
    let is_probe = matches!(request.uri().path(), "/health" | "/ready");
    if is_probe || is_for_this_machine(request.headers()) {
        return next.run(request).await;
    }
    let refusal = serde_json::json!({
        "error": "without ADMIN_TOKEN this is for localhost, 127.0.0.0/8 and [::1] only, by the header Host: set ADMIN_TOKEN \
                  to be asked by another name",
        "code": "forbidden",
    });
    (StatusCode::FORBIDDEN, Json(refusal)).into_response()
}

fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        return false;
    };
    Authority::try_from(host.as_bytes()).is_ok_and(|it| is_this_machine(it.host()))
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}
