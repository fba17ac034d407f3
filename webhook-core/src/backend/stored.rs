//! Endpoints, attempts and bulk replays in the form in which they are stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::delivery::{Attempt, Outcome};
use crate::endpoint::{Endpoint, EndpointSecret, EndpointSettings, RateLimit};
use crate::error::{BoxError, Error, ErrorKind};
use crate::filter::{EventPattern, PayloadFilter};
use crate::header_log::HeaderLog;
use crate::headers::CustomHeaders;
use crate::replay::Replay;
use crate::signing::Secret;
use crate::tenant::Tenant;
use crate::time::Timestamp;
use crate::transport::TransportErrorKind;

/// An endpoint as a row of plain columns.
///
/// `settings` is JSON text, for people and queries too; `secrets` holds all that must never be shown: the
/// signing secrets, and the values of secret headers. Treat it as opaque bytes.
///
/// ```
/// use webhook_core::backend::EndpointRow;
/// # let endpoint = webhook_core::testing::endpoint_for("acme", Default::default());
/// let row = EndpointRow::from(&endpoint);
/// assert_eq!(row.tenant, "acme");
/// assert!(!row.settings.contains("whsec_"));
/// assert_eq!(webhook_core::Endpoint::try_from(row)?.url, endpoint.url);
/// # Ok::<(), webhook_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The fields of `Endpoint`, by the same names.
pub struct EndpointRow {
    pub id: Uuid,
    pub tenant: String,
    pub url: String,
    pub settings: String,
    pub secrets: Vec<u8>,
    pub state: String,
    pub state_reason: Option<String>,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What is in `settings`. Absent fields have their defaults, so that older rows stay readable.
#[derive(Serialize, Deserialize)]
struct Settings {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    event_types: Vec<EventPattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<PayloadFilter>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate_limit: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ordered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_schedule_ms: Option<Vec<u64>>,
}

#[derive(Serialize, Deserialize)]
struct Rate {
    limit: u32,
    per_ms: u64,
}

/// What is in `secrets`.
#[derive(Serialize, Deserialize)]
struct Secrets<'a> {
    #[serde(borrow)]
    signing: Vec<SigningSecret<'a>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct SigningSecret<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    /// In µs since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

impl From<&Endpoint> for EndpointRow {
    fn from(endpoint: &Endpoint) -> Self {
        let settings = Settings::from(&endpoint.settings);
        let signing = endpoint.secrets.iter().map(|secret| SigningSecret {
            key: secret.secret.expose().into(),
            expires_at: secret.expires_at.map(Timestamp::as_micros),
        });
        let secrets = Secrets {
            signing: signing.collect(),
            headers: values(endpoint.settings.headers.as_map(), true),
        };
        Self {
            id: endpoint.id,
            tenant: endpoint.tenant.as_str().to_owned(),
            url: endpoint.url.as_str().to_owned(),
            settings: serde_json::to_string(&settings).unwrap_or_default(),
            secrets: serde_json::to_vec(&secrets).unwrap_or_default(),
            state: endpoint.state.as_str().to_owned(),
            state_reason: endpoint.state_reason.map(|it| it.as_str().to_owned()),
            version: endpoint.version,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

impl TryFrom<EndpointRow> for Endpoint {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Corrupt`] when a column does not hold what [`EndpointRow::from`] wrote.
    fn try_from(row: EndpointRow) -> Result<Self, Error> {
        parse_endpoint(&row).map_err(|error| corrupt("endpoint", error))
    }
}

fn parse_endpoint(row: &EndpointRow) -> Result<Endpoint, BoxError> {
    let settings: Settings = serde_json::from_str(&row.settings)?;
    let secrets: Secrets<'_> = serde_json::from_slice(&row.secrets)?;
    let signing = secrets.signing.iter().map(|secret| {
        Ok(EndpointSecret {
            secret: Secret::import(&secret.key)?,
            expires_at: secret.expires_at.map(Timestamp::from_micros),
        })
    });
    let signing = signing.collect::<Result<_, BoxError>>()?;
    Ok(Endpoint {
        id: row.id,
        tenant: Tenant::new(&row.tenant)?,
        url: row.url.parse()?,
        settings: settings.parse(&secrets.headers)?,
        secrets: signing,
        state: row.state.parse()?,
        state_reason: row.state_reason.as_deref().map(str::parse).transpose()?,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

impl From<&EndpointSettings> for Settings {
    fn from(settings: &EndpointSettings) -> Self {
        let schedule = settings.retry_schedule.as_deref();
        Self {
            description: settings.description.clone(),
            event_types: settings.event_types.clone(),
            filter: settings.filter.clone(),
            headers: values(settings.headers.as_map(), false),
            rate_limit: settings.rate_limit.map(|rate| Rate {
                limit: rate.limit,
                per_ms: millis(rate.per),
            }),
            max_in_flight: settings.max_in_flight,
            ordered: settings.ordered,
            timeout_ms: settings.timeout.map(millis),
            retry_schedule_ms: schedule.map(|it| it.iter().copied().map(millis).collect()),
        }
    }
}

impl Settings {
    fn parse(
        self,
        secret_headers: &BTreeMap<String, String>,
    ) -> Result<EndpointSettings, BoxError> {
        fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
            map.iter().map(|(name, value)| (&**name, &**value))
        }
        let schedule = self.retry_schedule_ms;
        Ok(EndpointSettings {
            headers: CustomHeaders::new(pairs(&self.headers), pairs(secret_headers))?,
            description: self.description,
            event_types: self.event_types,
            filter: self.filter,
            rate_limit: self.rate_limit.map(|rate| RateLimit {
                limit: rate.limit,
                per: Duration::from_millis(rate.per_ms),
            }),
            max_in_flight: self.max_in_flight,
            ordered: self.ordered,
            timeout: self.timeout_ms.map(Duration::from_millis),
            retry_schedule: schedule.map(|it| it.into_iter().map(Duration::from_millis).collect()),
        })
    }
}

/// The headers that are secret, or those that are not, as text: [`CustomHeaders`] are made of nothing else.
fn values(headers: &HeaderMap, secret: bool) -> BTreeMap<String, String> {
    let chosen = headers
        .iter()
        .filter(|(_, value)| value.is_sensitive() == secret);
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    chosen
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// An attempt as a row of plain columns; borrowed to be written, owned when read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptRow<'a> {
    /// When it began, in µs since 1970.
    pub started_at: i64,
    /// How long it took, in µs.
    pub duration: i64,
    /// To the response's head, in µs.
    pub first_byte: Option<i64>,
    /// The request's headers, encoded as [`HeaderLog`] says.
    pub request_headers: Cow<'a, [u8]>,
    /// The response's status; `None` if there was no response.
    pub status: Option<i16>,
    /// The kind of failure, if there was no response.
    pub error_kind: Option<Cow<'a, str>>,
    /// The response's headers, encoded as [`HeaderLog`] says.
    pub response_headers: Option<Cow<'a, [u8]>>,
    /// What is kept of the response's body.
    pub response_body: Option<Cow<'a, [u8]>>,
    /// Whether the body was longer.
    pub truncated: bool,
}

impl<'a> From<&'a Attempt> for AttemptRow<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let row = Self {
            started_at: attempt.started_at.as_micros(),
            duration: micros(attempt.duration),
            first_byte: attempt.first_byte.map(micros),
            request_headers: attempt.request_headers.as_bytes().into(),
            ..Self::default()
        };
        match &attempt.outcome {
            Outcome::Failed(kind) => Self {
                error_kind: Some(kind.as_str().into()),
                ..row
            },
            Outcome::Response {
                status,
                headers,
                body,
                truncated,
            } => Self {
                status: i16::try_from(*status).ok(),
                response_headers: Some(headers.as_bytes().into()),
                response_body: Some(body[..].into()),
                truncated: *truncated,
                ..row
            },
        }
    }
}

impl TryFrom<AttemptRow<'_>> for Attempt {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Corrupt`] when a column does not hold what [`AttemptRow::from`] wrote.
    fn try_from(row: AttemptRow<'_>) -> Result<Self, Error> {
        parse_attempt(row).map_err(|error| corrupt("attempts", error))
    }
}

fn parse_attempt(row: AttemptRow<'_>) -> Result<Attempt, BoxError> {
    let outcome = match (row.status, row.error_kind) {
        (Some(status), _) => Outcome::Response {
            status: u16::try_from(status)?,
            headers: headers(row.response_headers.unwrap_or_default())?,
            body: Bytes::from(row.response_body.unwrap_or_default().into_owned()),
            truncated: row.truncated,
        },
        (None, Some(kind)) => Outcome::Failed(kind.parse()?),
        (None, None) => Outcome::Failed(TransportErrorKind::Internal),
    };
    Ok(Attempt {
        started_at: Timestamp::from_micros(row.started_at),
        duration: duration(row.duration),
        first_byte: row.first_byte.map(duration),
        request_headers: headers(row.request_headers)?,
        outcome,
    })
}

/// A bulk replay as a row of plain columns. Counts that do not fit are as large as can be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields of `Replay`, by the same names.
pub struct ReplayRow {
    pub id: Uuid,
    pub tenant: Option<String>,
    /// JSON text.
    pub selection: String,
    pub state: String,
    pub pace: i64,
    pub total: i64,
    pub total_is_exact: bool,
    pub done: i64,
    pub skipped: i64,
    pub created_by: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl From<&Replay> for ReplayRow {
    fn from(replay: &Replay) -> Self {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            id: replay.id,
            tenant: replay.tenant.as_ref().map(|it| it.as_str().to_owned()),
            selection: serde_json::to_string(&replay.selection).unwrap_or_default(),
            state: replay.state.as_str().to_owned(),
            pace: replay.pace.into(),
            total: count(replay.total),
            total_is_exact: replay.total_is_exact,
            done: count(replay.done),
            skipped: count(replay.skipped),
            created_by: replay.created_by.clone(),
            created_at: replay.created_at,
            updated_at: replay.updated_at,
        }
    }
}

impl TryFrom<ReplayRow> for Replay {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Corrupt`] when a column does not hold what [`ReplayRow::from`] wrote.
    fn try_from(row: ReplayRow) -> Result<Self, Error> {
        parse_replay(row).map_err(|error| corrupt("replays", error))
    }
}

fn parse_replay(row: ReplayRow) -> Result<Replay, BoxError> {
    Ok(Replay {
        id: row.id,
        tenant: row.tenant.as_deref().map(Tenant::new).transpose()?,
        selection: serde_json::from_str(&row.selection)?,
        state: row.state.parse()?,
        pace: row.pace.try_into()?,
        total: row.total.try_into()?,
        total_is_exact: row.total_is_exact,
        done: row.done.try_into()?,
        skipped: row.skipped.try_into()?,
        created_by: row.created_by,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

fn headers(bytes: Cow<'_, [u8]>) -> Result<HeaderLog, BoxError> {
    Ok(HeaderLog::from_bytes(bytes.into_owned())?)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn corrupt(operation: &'static str, error: BoxError) -> Error {
    Error::new(ErrorKind::Corrupt, operation).with_source(error)
}

impl std::fmt::Debug for EndpointRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointRow")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("state", &self.state)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::endpoint_for;

    fn rich() -> Endpoint {
        let headers = CustomHeaders::new([("x-shard", "7")], [("authorization", "Bearer canary")]);
        endpoint_for(
            "acme",
            EndpointSettings {
                description: "a \"quoted\" text".into(),
                event_types: vec!["order.*".parse().unwrap()],
                filter: Some(
                    PayloadFilter::new(&serde_json::json!({ "a.b": { "gte": 100 } })).unwrap(),
                ),
                headers: headers.unwrap(),
                rate_limit: Some(RateLimit {
                    limit: 50,
                    per: Duration::from_secs(1),
                }),
                max_in_flight: Some(3),
                ordered: true,
                timeout: Some(Duration::from_secs(9)),
                retry_schedule: Some(vec![Duration::from_secs(1), Duration::from_secs(60)]),
            },
        )
    }

    #[test]
    fn endpoints_come_back_as_they_were() {
        for endpoint in [rich(), endpoint_for("default", EndpointSettings::default())] {
            let back = Endpoint::try_from(EndpointRow::from(&endpoint)).unwrap();
            assert_eq!(back.settings, endpoint.settings);
            assert_eq!(back.secret(), endpoint.secret());
            assert_eq!((back.url, back.state), (endpoint.url, endpoint.state));
            assert_eq!(back.updated_at, endpoint.updated_at);
        }
    }

    #[test]
    fn nothing_secret_stands_in_the_settings_or_in_debug() {
        let row = EndpointRow::from(&rich());
        assert!(String::from_utf8_lossy(&row.secrets).contains("canary"));
        for text in [row.settings.clone(), format!("{row:?}")] {
            assert!(
                !text.contains("canary") && !text.contains("whsec_"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_corrupt_and_no_panic() {
        let spoil: [fn(&mut EndpointRow); 5] = [
            |row| row.settings = "{".into(),
            |row| row.secrets = b"\xff".into(),
            |row| row.state = "gone".into(),
            |row| row.url = "not a url".into(),
            |row| row.tenant = String::new(),
        ];
        for spoil in spoil {
            let mut row = EndpointRow::from(&rich());
            spoil(&mut row);
            assert_eq!(
                Endpoint::try_from(row).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
        let row = AttemptRow {
            error_kind: Some("no such kind".into()),
            ..AttemptRow::default()
        };
        assert_eq!(
            Attempt::try_from(row).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }
}
