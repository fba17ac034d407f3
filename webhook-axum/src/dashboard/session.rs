//! Says who may see the dashboard, and what every form must prove.
//!
//! The host's [`Auth`](crate::Auth) decides. A browser cannot send a bearer token by itself. So the login page takes the token
//! once and sets a cookie, which holds a time at which it ends and a MAC keyed by the token. Any process can check this cookie,
//! and a new token ends all sessions. Only the dashboard accepts the cookie. The login page does not limit how often somebody may
//! try a token. The API takes the same token without such a limit, so a limit here would only let anybody lock the readers out.
//!
//! A form must come from our own pages: the browser says so (`Sec-Fetch-Site` or `Origin`), and the form repeats the value of a
//! cookie that we set.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use webhook_core::{Scope, Timestamp};

use super::shell::{PageError, Refusal, Shell, page, page_with};
use crate::auth::{Identity, Role};
use crate::error::ApiError;
use crate::router::Api;

const SESSION: &str = "webhook_session";
const CSRF: &str = "webhook_csrf";
/// How long a login lasts.
const LIFE: Duration = Duration::from_secs(12 * 3_600);
/// The most bytes of a form that signs in or out: nobody is known yet who sends it.
const BEFORE_THE_DOOR: usize = 8 * 1_024;
/// Of one that holds an event's data, beside that.
const ROOM: usize = 512 * 1_024;
/// Of any other: as many as the API takes, each of which a form may write as three.
const SETTINGS: usize = 3 * 128 * 1_024;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/dashboard", get(to_root))
        .route("/dashboard/login", get(ask).post(login))
        .route("/dashboard/logout", axum::routing::post(logout))
}

/// What a form sent, once it is known to be ours.
#[derive(Clone, Default)]
pub(super) struct Fields(Arc<BTreeMap<String, String>>);

impl Fields {
    /// A field with something in it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name)?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeMap<String, String> {
        self.0.as_ref().clone()
    }
}

impl FromRequestParts<Api> for Fields {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// The layer before every page: lets in who may, and checks forms before a handler sees them.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let (csrf, is_new) = csrf_of(&parts.headers);
    let mut shell = Shell::at(parts.uri.path());
    shell.csrf = csrf.clone();
    let secure = is_https(&parts.headers);
    let mut response = match admit(&api, parts, body, &mut shell).await {
        Ok(request) => next.run(request).await,
        Err(error) if error.status() == StatusCode::UNAUTHORIZED && api.auth.token().is_some() => {
            shell.goto("login")
        }
        Err(error) => Refusal::of(&error).page(shell.clone()),
    };
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = refusal.page(shell);
    }
    if is_new {
        set_cookie(&mut response, CSRF, &csrf, None, secure);
    }
    response
}

async fn admit(
    api: &Api,
    mut parts: Parts,
    body: axum::body::Body,
    shell: &mut Shell,
) -> Result<Request, ApiError> {
    let identity = identify(api, &parts, shell).await?;
    shell.name.clone_from(&identity.name);
    shell.can_change = identity.role == Role::Operator;
    shell.tenant = match &identity.scope {
        Scope::All => None,
        Scope::Tenant(tenant) => Some(tenant.to_string()),
    };
    let may = identity.may(&parts.method);
    parts.extensions.insert(identity);
    if !may {
        return Err(ApiError::forbidden("a viewer may only read"));
    }
    let is_form = parts.method == Method::POST;
    let request = Request::from_parts(parts, body);
    let mut request = if is_form {
        let limit = most_of(api, request.uri().path());
        let (parts, fields) = take_form(request, limit).await?;
        let mut request = Request::from_parts(parts, axum::body::Body::empty());
        request.extensions_mut().insert(fields);
        request
    } else {
        request
    };
    request.extensions_mut().insert(shell.clone());
    Ok(request)
}

async fn identify(api: &Api, parts: &Parts, shell: &mut Shell) -> Result<Identity, ApiError> {
    if let Some(token) = api.auth.token() {
        let now = api.dispatcher.now();
        if cookies(&parts.headers, SESSION).any(|it| is_session(token, it, now)) {
            shell.has_session = true;
            return Ok(Identity::operator("signed in"));
        }
    }
    api.identify(parts).await
}

/// The most bytes of a form that is sent to this path.
fn most_of(api: &Api, path: &str) -> usize {
    let with_data = ["/test", "/event-types", "/event-types/send"];
    if with_data.iter().any(|end| path.ends_with(end)) {
        let payload = api.dispatcher.max_payload();
        payload.saturating_mul(3).saturating_add(ROOM)
    } else {
        SETTINGS
    }
}

/// The fields of a form that one of our pages sent.
async fn take_form(request: Request, limit: usize) -> Result<(Parts, Fields), ApiError> {
    let (parts, body) = request.into_parts();
    if !is_ours(&parts.headers) {
        return Err(ApiError::forbidden("this form was sent from another site"));
    }
    let body = to_bytes(body, limit).await;
    let body = body.map_err(|_| ApiError::body_too_large(limit))?;
    let mut form = Request::new(axum::body::Body::from(body));
    *form.method_mut() = Method::POST;
    *form.headers_mut() = parts.headers.clone();
    let fields = axum::Form::<BTreeMap<String, String>>::from_request(form, &()).await;
    let axum::Form(fields) =
        fields.map_err(|_| ApiError::invalid_request("the body is no form"))?;
    let given = fields.get("csrf").map_or("", String::as_str);
    let matches = |ours: &str| bool::from(ours.as_bytes().ct_eq(given.as_bytes()));
    if given.is_empty() || !cookies(&parts.headers, CSRF).any(matches) {
        return Err(ApiError::forbidden(
            "this form is out of date; go back, reload, and try again",
        ));
    }
    Ok((parts, Fields(Arc::new(fields))))
}

/// Whether the browser says that the request comes from a page of this origin: by `Sec-Fetch-Site`, which no page can set,
/// or, where it is left out, by an `Origin` of the host that is asked. `null`, or neither, is somebody else. A form must
/// pass this and repeat the cookie: either alone would do, and neither depends on the other.
fn is_ours(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|it: &HeaderValue| it.to_str().ok())
    };
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    let (origin, host) = (text(header::ORIGIN), text(header::HOST));
    let origin = origin.and_then(|it| it.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

fn is_https(headers: &HeaderMap) -> bool {
    let starts = |name: &str, start: &[u8]| {
        let value = headers.get(name);
        value.is_some_and(|value| value.as_bytes().starts_with(start))
    };
    starts("origin", b"https://") || starts("x-forwarded-proto", b"https")
}

/// What this browser's forms repeat, and whether it has to be told first.
fn csrf_of(headers: &HeaderMap) -> (String, bool) {
    let known = cookies(headers, CSRF)
        .find(|it| it.len() == 32)
        .map(str::to_owned);
    let is_new = known.is_none();
    (
        known.unwrap_or_else(|| Uuid::new_v4().simple().to_string()),
        is_new,
    )
}

fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(header::COOKIE).into_iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Without a path: so it is sent to what lies beside the page that set it, which is the dashboard.
fn set_cookie(response: &mut Response, name: &str, value: &str, life: Option<u64>, secure: bool) {
    let mut cookie = format!("{name}={value}; HttpOnly; SameSite=Strict");
    if let Some(life) = life {
        cookie.push_str(&format!("; Max-Age={life}"));
    }
    if secure {
        cookie.push_str("; Secure");
    }
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn mac(token: &str, end: i64) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.as_bytes()) else {
        unreachable!("HMAC takes keys of any length")
    };
    mac.update(b"webhook dashboard session\n");
    mac.update(end.to_string().as_bytes());
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn new_session(token: &str, now: Timestamp) -> String {
    let end = (now + LIFE).as_micros();
    format!("{end}.{}", mac(token, end))
}

fn is_session(token: &str, given: &str, now: Timestamp) -> bool {
    let Some((end, given)) = given.split_once('.') else {
        return false;
    };
    let Ok(end) = end.parse::<i64>() else {
        return false;
    };
    now.as_micros() < end && mac(token, end).as_bytes().ct_eq(given.as_bytes()).into()
}

async fn to_root(uri: axum::extract::OriginalUri) -> Response {
    let last = uri.path().rsplit('/').next().unwrap_or("dashboard");
    use axum::response::IntoResponse as _;
    axum::response::Redirect::to(&format!("{last}/")).into_response()
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    error: Option<&'static str>,
}

async fn ask(State(api): State<Api>, request: Request) -> Response {
    let mut shell = Shell::at("/dashboard/login");
    if api.auth.token().is_none() {
        return shell.goto("");
    }
    let (csrf, is_new) = csrf_of(request.headers());
    shell.csrf.clone_from(&csrf);
    let mut response = page(&LoginPage { shell, error: None });
    if is_new {
        set_cookie(
            &mut response,
            CSRF,
            &csrf,
            None,
            is_https(request.headers()),
        );
    }
    response
}

async fn login(State(api): State<Api>, request: Request) -> Response {
    let mut shell = Shell::at("/dashboard/login");
    let (parts, fields) = match take_form(request, BEFORE_THE_DOOR).await {
        Ok(taken) => taken,
        Err(error) => return Refusal::of(&error).page(shell),
    };
    let (Some(token), given) = (api.auth.token(), fields.get("token").unwrap_or_default()) else {
        return shell.goto("");
    };
    if !bool::from(token.as_bytes().ct_eq(given.as_bytes())) {
        shell.csrf = csrf_of(&parts.headers).0;
        let error = Some("This is not the token");
        return page_with(StatusCode::UNAUTHORIZED, &LoginPage { shell, error });
    }
    let session = new_session(token, api.dispatcher.now());
    let mut response = shell.goto("");
    let secure = is_https(&parts.headers);
    set_cookie(
        &mut response,
        SESSION,
        &session,
        Some(LIFE.as_secs()),
        secure,
    );
    response
}

async fn logout(request: Request) -> Result<Response, PageError> {
    let secure = is_https(request.headers());
    let shell = Shell::at("/dashboard/logout");
    if let Err(error) = take_form(request, BEFORE_THE_DOOR).await {
        return Ok(Refusal::of(&error).page(shell));
    }
    let mut response = shell.goto("login");
    set_cookie(&mut response, SESSION, "", Some(0), secure);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_and_belongs_to_its_token() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let session = new_session("token", now);
        assert!(is_session("token", &session, now));
        assert!(!is_session("other", &session, now));
        assert!(!is_session("token", &session, now + LIFE));
        let longer = session.replacen('1', "2", 1);
        assert!(!is_session("token", &longer, now));
        assert!(!session.contains("token"));
    }
}
