//! Lists: pages by key, newest first.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;
use webhook_core::{Page, PageRequest};

/// The most items of a page.
pub(crate) const MAX_LIMIT: usize = 200;

/// How many items a page has: 1 to 200, 50 unless given.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(value_type = u32, minimum = 1, maximum = 200, default = 50)
)]
#[serde(try_from = "usize")]
pub(crate) struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<usize> for Limit {
    type Error = String;

    fn try_from(limit: usize) -> Result<Self, String> {
        match limit {
            1..=MAX_LIMIT => Ok(Self(limit)),
            _ => Err(format!("limit must be 1 to {MAX_LIMIT}")),
        }
    }
}

/// Where a page begins: after the row with this id. Opaque to callers.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(value_type = String, pattern = "^[A-Za-z0-9_-]{22}$")
)]
#[serde(try_from = "String")]
pub(crate) struct Cursor(Uuid);

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let id = Uuid::from_slice(&bytes);
        id.map(Self)
            .map_err(|_| "cursor must be the `next` of a page")
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&cursor_text(self.0))
    }
}

/// A page's `next` as a link carries it.
pub(crate) fn cursor_text(next: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(next)
}

/// For fuzzing: what is read as a cursor, written again.
#[doc(hidden)]
#[must_use]
pub fn cursor_again(text: &str) -> Option<String> {
    let cursor = Cursor::try_from(text.to_owned()).ok()?;
    Some(cursor_text(cursor.0))
}

/// Back to when a page that holds less than was asked for has searched, if there is more to search: that time is in the id.
#[cfg(feature = "dashboard")]
pub(crate) fn searched_back_to<T>(page: &Page<T>, limit: Limit) -> Option<webhook_core::Timestamp> {
    let next = page.next.filter(|_| page.items.len() < limit.0)?;
    let (seconds, _) = next.get_timestamp()?.to_unix();
    let seconds = i64::try_from(seconds).ok()?;
    Some(webhook_core::Timestamp::from_seconds(seconds))
}

/// What a list's query asks for.
pub(crate) fn page_request(limit: Limit, cursor: Option<Cursor>) -> PageRequest {
    PageRequest {
        before: cursor.map(|cursor| cursor.0),
        limit: limit.0,
    }
}

/// The answer of a list.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct List<T> {
    /// Where a filter matches few, there may be fewer than `limit` asks for, or none, while there is a `next`: one request
    /// looks no further back than that.
    items: Vec<T>,
    /// `null` at the end.
    next: Option<Cursor>,
}

impl<T> List<T> {
    /// The page, each of its rows shown by `view`.
    pub(crate) fn of<R>(page: &Page<R>, view: impl FnMut(&R) -> T) -> Self {
        Self {
            items: page.items.iter().map(view).collect(),
            next: page.next.map(Cursor),
        }
    }
}

impl<T: Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(4648),
            ..ProptestConfig::with_cases(1_024)
        })]

        #[test]
        fn a_cursor_comes_back_as_it_was_given(id: u128) {
            let given = serde_json::to_value(Cursor(Uuid::from_u128(id))).unwrap();
            let cursor: Cursor = serde_json::from_value(given).unwrap();
            prop_assert_eq!(cursor.0.as_u128(), id);
        }

        #[test]
        fn any_other_text_is_a_cursor_of_one_row_or_none(text in prop_oneof![any::<String>(), "[A-Za-z0-9_-]{0,30}"]) {
            if let Some(again) = cursor_again(&text) {
                prop_assert_eq!(again, text);
            }
        }

        #[test]
        fn a_limit_is_within_its_bounds(limit: usize) {
            prop_assert_eq!(Limit::try_from(limit).is_ok(), (1..=MAX_LIMIT).contains(&limit));
        }
    }
}
