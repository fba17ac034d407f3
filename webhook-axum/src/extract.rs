//! Extracts bodies, ids and queries, and refuses bad ones in the API's own form.

use std::error::Error as StdError;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use uuid::Uuid;
use webhook_core::Dispatcher;

use crate::error::ApiError;
use crate::json::Object;
use crate::router::Api;

/// What a route takes as its body.
pub(crate) trait RequestBody: DeserializeOwned {
    /// The most bytes it may have.
    fn limit(_: &Dispatcher) -> usize {
        128 * 1024
    }

    /// Reads it; an object unless said otherwise.
    fn parse(text: &[u8]) -> Result<Self, ApiError> {
        parse_object(text)
    }
}

/// A JSON body. A request with one takes no parameters in its query.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: RequestBody> FromRequest<Api> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        refuse_query(request.uri())?;
        require_json(request.headers())?;
        let text = read(request.into_body(), T::limit(&api.dispatcher)).await?;
        T::parse(&text).map(Self)
    }
}

/// A JSON body that may be left out. There are no parameters in the query either way.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: RequestBody + Default> FromRequest<Api> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        refuse_query(request.uri())?;
        let (parts, body) = request.into_parts();
        let text = read(body, T::limit(&api.dispatcher)).await?;
        if text.is_empty() {
            return Ok(Self(T::default()));
        }
        require_json(&parts.headers)?;
        T::parse(&text).map(Self)
    }
}

/// The path's last `{id}`: those before it are the host's.
pub(crate) struct Id(pub(crate) Uuid);

impl FromRequestParts<Api> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let malformed = || ApiError::invalid("invalid_id", "the id in the path must be a UUID");
        let id = last_param(parts, api, "id").await.ok_or_else(malformed)?;
        Uuid::try_parse(&id).map(Self).map_err(|_| malformed())
    }
}

/// The path's last parameter of this name, if it is UTF-8.
pub(crate) async fn last_param(parts: &mut Parts, api: &Api, name: &str) -> Option<String> {
    let params = RawPathParams::from_request_parts(parts, api).await.ok()?;
    let named = params.iter().filter(|(found, _)| *found == name);
    named.last().map(|(_, text)| text.to_owned())
}

/// A request without body and query.
pub(crate) struct NoQuery;

impl FromRequestParts<Api> for NoQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        refuse_query(&parts.uri).map(|()| Self)
    }
}

/// Somebody who asks for `?dry_run=true` where there is none is to hear so, before anything is done.
fn refuse_query(uri: &Uri) -> Result<(), ApiError> {
    match uri.query() {
        None | Some("") => Ok(()),
        Some(_) => Err(invalid_query(
            "this request takes no parameters in its query",
        )),
    }
}

/// The query's parameters.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        if !is_utf8(parts.uri.query().unwrap_or_default()) {
            return Err(invalid_query("the query is not UTF-8"));
        }
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|query| Self(query.0))
            .map_err(|rejection| invalid_query(root_cause(&rejection).to_string()))
    }
}

/// 400: a parameter of the query is unknown, given twice or invalid.
pub(crate) fn invalid_query(sentence: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::invalid("invalid_query", sentence)
}

/// Reads a struct from JSON text. The error names the place, and never what stands there: it may be a secret.
pub(crate) fn parse_object<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    parse(text).map(|Object(parsed)| parsed)
}

/// As [`parse_object`], for what is no object.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(text)
        .map_err(|_| ApiError::invalid("invalid_json", "the body is not UTF-8"))?;
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => ApiError::invalid_request(without_value(&error.to_string())),
        _ => ApiError::invalid("invalid_json", format!("the body is not JSON: {error}")),
    })
}

/// serde's `invalid type: string "s3cret", expected u64` without the string.
fn without_value(message: &str) -> String {
    let quotes = ["invalid type: ", "invalid value: "];
    let start = quotes.iter().find(|start| message.starts_with(**start));
    match (start, message.rsplit_once(", expected ")) {
        (Some(start), Some((_, expected))) => format!("{start}expected {expected}"),
        _ => message.to_owned(),
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE);
    let essence = given
        .and_then(|given| given.to_str().ok()?.split(';').next())
        .map(str::trim);
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(ApiError::unsupported_media_type()),
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    // What announces its length need not be read to be refused.
    if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > limit) {
        return Err(ApiError::body_too_large(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if root_cause(&*error).is::<LengthLimitError>() => {
            Err(ApiError::body_too_large(limit))
        }
        Err(_) => Err(ApiError::invalid(
            "unreadable_body",
            "the body could not be read",
        )),
    }
}

fn root_cause<'a>(mut error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Whether a query is UTF-8 once its `%xx` are decoded. Form decoding would put U+FFFD in place of the rest.
fn is_utf8(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::str::from_utf8(&bytes).is_ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_repeat_what_it_refuses() {
        for (text, sentence) in [
            (
                r#""s3cret, expected x""#,
                "invalid type: expected an object at line 1 column 20",
            ),
            ("[1]", "invalid type: expected an object at line 1 column 0"),
        ] {
            let error = parse_object::<std::collections::BTreeMap<String, u8>>(text.as_bytes());
            let shown = format!("{:?}", error.unwrap_err());
            assert!(shown.contains(sentence), "{shown}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn queries_are_utf8_after_decoding() {
        for good in [
            "",
            "q=a+b",
            "q=%C3%A4",
            "q=ä",
            "q=100%",
            "q=%zz",
            "q=%EF%BF%BD",
        ] {
            assert!(is_utf8(good), "{good}");
        }
        for bad in ["q=%ff", "q=%C3", "q=%C3%28"] {
            assert!(!is_utf8(bad), "{bad}");
        }
    }
}
