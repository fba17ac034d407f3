//! What all pages share: navigation, the caller, and the form of the answer.

use std::convert::Infallible;

use askama::Template;
use axum::extract::FromRequestParts;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, header};

use super::format::capital;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::router::Api;

/// The screens, by their paths below `/dashboard/`, as the navigation lists them.
pub(super) const SCREENS: [(&str, &str); 8] = [
    ("", "Overview"),
    ("endpoints", "Endpoints"),
    ("deliveries", "Deliveries"),
    ("events", "Events"),
    ("dead-letters", "Dead letters"),
    ("replays", "Replays"),
    ("event-types", "Event types"),
    ("audit", "Audit log"),
];

/// What a page says of itself and of its reader.
#[derive(Clone, Debug, Default)]
pub(super) struct Shell {
    /// The way from this page to `/dashboard/`, relative: so any prefix of a host or a proxy will do.
    pub(super) root: String,
    /// The screen, as its path names it.
    pub(super) section: String,
    /// What people call the reader.
    pub(super) name: String,
    /// The one tenant that they see, if they do not see all.
    pub(super) tenant: Option<String>,
    /// Whether they may change anything.
    pub(super) can_change: bool,
    /// Whether they came through the login page.
    pub(super) has_session: bool,
    /// What `/dashboard/live` compares with: how things were before the page was read.
    pub(super) known: String,
    /// What each form must send back.
    pub(super) csrf: String,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
}

impl Shell {
    pub(super) fn at(path: &str) -> Self {
        let inner = path.strip_prefix("/dashboard/").unwrap_or_default();
        let depth = inner.matches('/').count();
        Self {
            root: match depth {
                _ if path == "/dashboard" => "dashboard/".to_owned(),
                0 => "./".to_owned(),
                _ => "../".repeat(depth),
            },
            section: inner.split('/').next().unwrap_or_default().to_owned(),
            style: super::assets::style_tag(),
            script: super::assets::script_tag(),
            ..Self::default()
        }
    }

    /// On to another page, given below `/dashboard/`, with `GET`.
    pub(super) fn goto(&self, page: &str) -> Response {
        Redirect::to(&format!("{}{page}", self.root)).into_response()
    }
}

impl FromRequestParts<Api> for Shell {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let given = parts.extensions.get::<Self>().cloned();
        let mut shell = given.unwrap_or_else(|| Self::at(parts.uri.path()));
        if let Ok(caller) = Caller::from_request_parts(parts, api).await
            && parts.method == Method::GET
        {
            shell.known = super::live::state_soon(api, &caller)
                .await
                .unwrap_or_default();
        }
        Ok(shell)
    }
}

/// A page that is answered with 200.
pub(super) fn page(template: &impl Template) -> Response {
    page_with(StatusCode::OK, template)
}

pub(super) fn page_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "page not rendered"
            );
            ApiError::unavailable(&error).into_response()
        }
    }
}

/// Bytes that somebody else chose, to be saved and never to be shown.
pub(super) fn download(name: &str, bytes: bytes::Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, bytes).into_response()
}

/// Why there is no page. The layer before the pages makes one of it.
pub(super) struct PageError(ApiError);

impl PageError {
    /// Whether the store is away.
    pub(super) fn is_away(&self) -> bool {
        self.0.status() == StatusCode::SERVICE_UNAVAILABLE
    }
}

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// Where no page is.
pub(super) async fn unknown() -> PageError {
    ApiError::unknown_path().into()
}

/// Where a page is, or a form goes, but not both. Whoever asks is not known here, and learns no more than that.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let sentence = match method {
        Method::GET => "There is nothing to see here: this is where a form is sent to",
        _ => "Nothing can be sent here: this is only for looking",
    };
    let refusal = Refusal {
        status: StatusCode::METHOD_NOT_ALLOWED,
        sentence: sentence.to_owned(),
        is_busy: false,
    };
    refusal.page(Shell::at(uri.path()))
}

/// A refusal on its way to the layer that knows the page's surroundings: every answer that is made of an [`ApiError`]
/// carries one, so that what an extractor refuses is a page too.
#[derive(Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    sentence: String,
    /// Whether it is only that too many look for something.
    is_busy: bool,
}

impl Refusal {
    pub(crate) fn of(error: &ApiError) -> Self {
        Self {
            status: error.status(),
            sentence: capital(error.sentence()),
            is_busy: error.is_overload(),
        }
    }

    pub(super) fn page(&self, shell: Shell) -> Response {
        let template = ErrorPage {
            shell,
            status: self.status,
            sentence: &self.sentence,
            is_busy: self.is_busy,
        };
        let mut response = page_with(self.status, &template);
        if self.is_busy {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    shell: Shell,
    status: StatusCode,
    sentence: &'a str,
    is_busy: bool,
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What browsers are told of every answer.
///
/// The referrer stays on this origin, so no other site learns of ids in addresses. `no-referrer` would hide no more, and
/// take something away: under it browsers send forms with `Origin: null`, and that is all there is on plain http, where
/// they leave `Sec-Fetch-Site` out. `session::is_ours` would then refuse our own forms, or have to let in everybody's.
pub(super) async fn secure(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
