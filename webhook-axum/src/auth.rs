//! Who calls. The host chooses how to tell when it builds the router.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use subtle::ConstantTimeEq;
use webhook_core::{BoxError, Scope};

use crate::error::ApiError;
use crate::router::Api;

/// Who may call the API. `/health` and `/ready` are open whatever is chosen.
///
/// ```
/// use webhook_axum::Auth;
///
/// let auth = Auth::bearer("a-long-random-token")?;
/// assert_eq!(format!("{auth:?}"), "Auth::bearer(..)");
/// assert!(Auth::bearer("").is_err());
/// # Ok::<(), webhook_axum::InvalidToken>(())
/// ```
#[derive(Clone)]
pub struct Auth(Kind);

#[derive(Clone)]
enum Kind {
    None,
    Bearer(String),
    Custom(Arc<dyn Authorizer>),
}

/// The text cannot be a bearer token: it is empty, or holds something else than visible ASCII, which no
/// client could send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bearer token is not empty and of visible ASCII characters")]
pub struct InvalidToken;

impl Auth {
    /// A caller that sends `Authorization: Bearer <token>` is an operator of every tenant.
    ///
    /// # Errors
    /// When the token is empty or cannot stand in a header, so that a missing setting does not open or lock
    /// the API unnoticed.
    pub fn bearer(token: impl Into<String>) -> Result<Self, InvalidToken> {
        let token = token.into();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken);
        }
        Ok(Self(Kind::Bearer(token)))
    }

    /// The host says who calls, and what they may do.
    #[must_use]
    pub fn custom(authorizer: impl Authorizer + 'static) -> Self {
        Self(Kind::Custom(Arc::new(authorizer)))
    }

    /// Everybody who can reach the router is an operator of every tenant: for tests, and behind something
    /// that lets in nobody else.
    #[must_use]
    pub fn none() -> Self {
        Self(Kind::None)
    }

    pub(crate) async fn identify(&self, parts: &Parts) -> Result<Identity, ApiError> {
        match &self.0 {
            Kind::None => Ok(Identity::operator("anonymous")),
            Kind::Bearer(token) => match bearer_token(&parts.headers) {
                Some(given) if token.as_bytes().ct_eq(given).into() => {
                    Ok(Identity::operator("bearer"))
                }
                _ => Err(ApiError::unauthorized()),
            },
            Kind::Custom(authorizer) => Ok(authorizer.authorize(parts).await?),
        }
    }
}

#[cfg(feature = "dashboard")]
impl Auth {
    /// The bearer token, if that is what lets callers in.
    pub(crate) fn token(&self) -> Option<&str> {
        match &self.0 {
            Kind::Bearer(token) => Some(token),
            Kind::None | Kind::Custom(_) => None,
        }
    }

    /// Whether callers have names of their own.
    pub(crate) fn tells_apart(&self) -> bool {
        matches!(self.0, Kind::Custom(_))
    }
}

/// Does not show the token.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::None => "Auth::none()",
            Kind::Bearer(_) => "Auth::bearer(..)",
            Kind::Custom(_) => "Auth::custom(..)",
        })
    }
}

/// A host's own way to tell who calls: sessions, JWTs, mTLS.
///
/// It is called once for each request except those to `/health` and `/ready`, before the body is read. The request's extensions
/// have what the host's layers put there. In a nested router, the URI is the part below the prefix.
///
/// It may use cookies. The router answers 403, before it calls this, to a request that changes something if the browser says in
/// `Sec-Fetch-Site` that a page of another origin sent it, also with `same-site`. It lets such a request pass if it has a bearer
/// token in `Authorization`, which a browser never sends by itself. The dashboard's forms also prove where they come from. On
/// plain http to other machines, browsers leave the header out, so cookies should also be `SameSite`.
///
/// ```
/// use async_trait::async_trait;
/// use http::request::Parts;
/// use webhook_axum::{Auth, AuthRejection, Authorizer, Identity};
/// use webhook_core::Tenant;
///
/// struct Sessions;
///
/// #[async_trait]
/// impl Authorizer for Sessions {
///     async fn authorize(&self, parts: &Parts) -> Result<Identity, AuthRejection> {
///         let customer = parts.headers.get("x-customer").ok_or(AuthRejection::Unauthorized)?;
///         let customer = customer.to_str().map_err(|_| AuthRejection::Unauthorized)?;
///         let tenant = Tenant::new(customer).map_err(|_| AuthRejection::Unauthorized)?;
///         Ok(Identity::viewer(customer).within(tenant))
///     }
/// }
///
/// let auth = Auth::custom(Sessions);
/// ```
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Who sent this request.
    ///
    /// # Errors
    /// When they are not let in, or it cannot be told.
    async fn authorize(&self, parts: &Parts) -> Result<Identity, AuthRejection>;
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthRejection {
    /// 401: the caller is unknown.
    #[error("the caller is not known")]
    Unauthorized,
    /// 403: the caller is known, but may not do this.
    #[error("the caller may not do this")]
    Forbidden,
    /// 503: the service that knows the callers does not answer. The error goes to the log.
    #[error("who calls cannot be told")]
    Unavailable(#[source] BoxError),
}

/// Who calls, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// What people call them, for the audit trail.
    pub name: String,
    /// Whether they may change anything.
    pub role: Role,
    /// Whose rows they see and touch.
    pub scope: Scope,
}

/// Whether a caller may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// May only read: `GET` and `HEAD`.
    Viewer,
    /// May also create, change, delete, replay and cancel.
    Operator,
}

impl Identity {
    /// One who may do everything, for every tenant unless narrowed.
    #[must_use]
    pub fn operator(name: impl Into<String>) -> Self {
        Self::new(name.into(), Role::Operator)
    }

    /// One who may only read, of every tenant unless narrowed.
    #[must_use]
    pub fn viewer(name: impl Into<String>) -> Self {
        Self::new(name.into(), Role::Viewer)
    }

    /// Sees and touches only what is in `scope`. Nothing outside exists for them.
    ///
    /// The API answers 403 to a caller whose scope is the [system tenant](webhook_core::Builder::system_tenant), which is
    /// `system` unless set, because the events of that tenant tell about the endpoints of all tenants. The host manages it with
    /// [`Scope::All`].
    #[must_use]
    pub fn within(mut self, scope: impl Into<Scope>) -> Self {
        self.scope = scope.into();
        self
    }

    fn new(name: String, role: Role) -> Self {
        Self {
            name,
            role,
            scope: Scope::All,
        }
    }

    pub(crate) fn may(&self, method: &Method) -> bool {
        self.role == Role::Operator || matches!(*method, Method::GET | Method::HEAD)
    }
}

/// The layer before every guarded route: lets in who may, and leaves their [`Identity`] in the request.
pub(crate) async fn authenticate(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    if !parts.method.is_safe() && is_another_sites(&parts.headers) {
        return Err(ApiError::forbidden("this was sent by another site's page"));
    }
    let identity = api.identify(&parts).await?;
    if !identity.may(&parts.method) {
        return Err(ApiError::forbidden("a viewer may only read"));
    }
    parts.extensions.insert(identity);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Whether a browser sends this for a page of another site, with whatever it sends by itself: cookies, a client
/// certificate. It says so in `Sec-Fetch-Site`, which no page can set and programs leave out. A bearer token it never
/// adds: a page that has one, and may send it, is the host's.
fn is_another_sites(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all("sec-fetch-site").iter();
    said.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
        && bearer_token(headers).is_none()
}

/// The credential of the one `Authorization` header
/// ([RFC 6750, 2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)).
fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

impl From<AuthRejection> for ApiError {
    fn from(rejection: AuthRejection) -> Self {
        match rejection {
            AuthRejection::Unauthorized => Self::unauthorized(),
            AuthRejection::Forbidden => Self::forbidden("this is not permitted to you"),
            AuthRejection::Unavailable(_) => {
                tracing::warn!(
                    error = &rejection as &dyn std::error::Error,
                    "request answered with 503"
                );
                Self::away("unavailable", "who calls cannot be told now; try again")
            }
        }
    }
}
