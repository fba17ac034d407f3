//! Endpoints, attempts and bulk replays in the form in which they are stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

use crate::delivery::{Attempt, Outcome};
use crate::encryption::{CannotOpen, Context, Encryption};
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
use crate::url::{EndpointUrl, InvalidEndpointUrl};

/// An endpoint as a row of plain columns.
///
/// `settings` is JSON text, for people and queries too; `secrets` holds all that must never be shown: the
/// signing secrets, the values of secret headers and the URL's query. It is sealed if the store has keys: treat it
/// as opaque bytes.
///
/// ```
/// use webhook_core::backend::{Encryption, EndpointRow};
/// use webhook_core::{EncryptionKey, StaticKeys};
/// # let endpoint = webhook_core::testing::endpoint_for("acme", Default::default());
/// let encryption = Encryption::with(StaticKeys::new(EncryptionKey::random()));
/// let row = EndpointRow::seal(&endpoint, &encryption)?;
/// assert_eq!(row.tenant, "acme");
/// assert!(!row.settings.contains("whsec_"));
/// assert_eq!(row.open(&encryption)?.whole()?.secret(), endpoint.secret());
/// # Ok::<(), webhook_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The fields of `Endpoint`, by the same names.
pub struct EndpointRow {
    pub id: Uuid,
    pub tenant: String,
    /// Without its query.
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
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "PayloadFilter::stored"
    )]
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

/// An endpoint as it was read back.
#[derive(Clone, Debug)]
pub enum Opened {
    /// With everything.
    Whole(Endpoint),
    /// Its secrets cannot be opened with the keys at hand: it comes without them, without its secret headers and
    /// its URL's query. Good for what sends nothing and changes nothing; the error says why.
    Sealed(Endpoint, Error),
}

impl Opened {
    /// The endpoint with everything.
    ///
    /// # Errors
    /// [`ErrorKind::Sealed`] when its secrets cannot be opened with the keys at hand.
    pub fn whole(self) -> Result<Endpoint, Error> {
        match self {
            Self::Whole(endpoint) => Ok(endpoint),
            Self::Sealed(_, error) => Err(error),
        }
    }

    /// The endpoint with what could be read.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        let (Self::Whole(endpoint) | Self::Sealed(endpoint, _)) = self;
        endpoint
    }
}

/// What is in `secrets`, before it is sealed.
#[derive(Default, Serialize, Deserialize)]
struct Secrets<'a> {
    #[serde(borrow)]
    signing: Vec<SigningSecret<'a>>,
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<Cow<'a, str>, Text<'a>>,
    /// The URL's. Absent also in rows of which the URL itself has it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    query: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SigningSecret<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    /// In µs since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

/// A secret text: borrowed from what it is made of, and where that is not possible erased when dropped.
#[derive(Serialize, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

impl EndpointRow {
    /// The row of an endpoint, its secrets sealed as `encryption` says.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when they cannot be sealed.
    pub fn seal(endpoint: &Endpoint, encryption: &Encryption) -> Result<Self, Error> {
        let settings = Settings::from(&endpoint.settings);
        let context = Context {
            tenant: endpoint.tenant.as_str(),
            endpoint: endpoint.id,
        };
        let secrets = Secrets::of(endpoint).encoded();
        let sealed = secrets.and_then(|plain| encryption.seal(plain, context));
        let failed = |error| Error::new(ErrorKind::Internal, "seal").with_source(error);
        Ok(Self {
            id: endpoint.id,
            tenant: endpoint.tenant.as_str().to_owned(),
            url: without_query(&endpoint.url).to_owned(),
            settings: serde_json::to_string(&settings).unwrap_or_default(),
            secrets: sealed.map_err(failed)?,
            state: endpoint.state.as_str().to_owned(),
            state_reason: endpoint.state_reason.map(|it| it.as_str().to_owned()),
            version: endpoint.version,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        })
    }

    /// The endpoint, as far as it can be opened. Rows that were written before there were keys open as well.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when a column does not hold what [`seal`](Self::seal) wrote.
    pub fn open(&self, encryption: &Encryption) -> Result<Opened, Error> {
        let context = Context {
            tenant: &self.tenant,
            endpoint: self.id,
        };
        let corrupt = |error| corrupt("endpoint", error);
        match encryption.open(&self.secrets, context) {
            Ok(plain) => {
                // What the parser says of a secret may quote it.
                let secrets = serde_json::from_slice(&plain).map_err(|_| corrupt("secrets".into()));
                let endpoint = self.endpoint(&secrets?).map_err(corrupt)?;
                Ok(Opened::Whole(endpoint))
            }
            Err(malformed @ CannotOpen::Malformed) => Err(corrupt(malformed.into())),
            Err(why) => {
                let endpoint = self.endpoint(&Secrets::default()).map_err(corrupt)?;
                let error = Error::new(ErrorKind::Sealed, "endpoint").with_source(why);
                Ok(Opened::Sealed(endpoint, error))
            }
        }
    }

    /// The row of the same endpoint as [`seal`](Self::seal) would write it today; `None` if its secrets are under
    /// the current key already, or there are no keys.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`ErrorKind::Sealed`] when its secrets cannot be opened.
    pub fn rekeyed(&self, encryption: &Encryption) -> Result<Option<Self>, Error> {
        if encryption.is_current(&self.secrets) {
            return Ok(None);
        }
        let endpoint = self.open(encryption)?.whole()?;
        Self::seal(&endpoint, encryption).map(Some)
    }

    fn endpoint(&self, secrets: &Secrets<'_>) -> Result<Endpoint, BoxError> {
        let settings: Settings = serde_json::from_str(&self.settings)?;
        let signing = secrets.signing.iter().map(|secret| {
            Ok(EndpointSecret {
                secret: Secret::import(&secret.key.0)?,
                expires_at: secret.expires_at.map(Timestamp::from_micros),
            })
        });
        let signing = signing.collect::<Result<_, BoxError>>()?;
        Ok(Endpoint {
            id: self.id,
            tenant: Tenant::new(&self.tenant)?,
            url: with_query(&self.url, secrets.query.as_ref())?,
            settings: settings.parse(&secrets.headers)?,
            secrets: signing,
            state: self.state.parse()?,
            state_reason: self.state_reason.as_deref().map(str::parse).transpose()?,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

impl<'a> Secrets<'a> {
    fn of(endpoint: &'a Endpoint) -> Self {
        let signing = endpoint.secrets.iter().map(|secret| SigningSecret {
            key: Text(secret.secret.expose().into()),
            expires_at: secret.expires_at.map(Timestamp::as_micros),
        });
        let headers = values(endpoint.settings.headers.as_map(), true);
        Self {
            signing: signing.collect(),
            headers: headers
                .map(|(name, value)| (name.into(), Text(value.into())))
                .collect(),
            query: endpoint.url.as_url().query().map(|it| Text(it.into())),
        }
    }

    /// As JSON. Sized at once: a buffer that grows leaves copies behind.
    fn encoded(&self) -> Result<Zeroizing<Vec<u8>>, BoxError> {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, self)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(length.0 + Encryption::OVERHEAD));
        serde_json::to_writer(&mut *plain, self)?;
        Ok(plain)
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn without_query(url: &EndpointUrl) -> &str {
    &url.as_url()[..url::Position::AfterPath]
}

fn with_query(url: &str, query: Option<&Text<'_>>) -> Result<EndpointUrl, InvalidEndpointUrl> {
    match query {
        Some(Text(query)) => Zeroizing::new(format!("{url}?{query}")).parse(),
        None => url.parse(),
    }
}

impl From<&EndpointSettings> for Settings {
    fn from(settings: &EndpointSettings) -> Self {
        let schedule = settings.retry_schedule.as_deref();
        Self {
            description: settings.description.clone(),
            event_types: settings.event_types.clone(),
            filter: settings.filter.clone(),
            headers: owned(values(settings.headers.as_map(), false)),
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
        secret_headers: &BTreeMap<Cow<'_, str>, Text<'_>>,
    ) -> Result<EndpointSettings, BoxError> {
        let plain = self.headers.iter().map(|(name, value)| (&**name, &**value));
        let secret = secret_headers
            .iter()
            .map(|(name, value)| (&**name, &*value.0));
        let schedule = self.retry_schedule_ms;
        Ok(EndpointSettings {
            headers: CustomHeaders::new(plain, secret)?,
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
fn values(headers: &HeaderMap, secret: bool) -> impl Iterator<Item = (&str, &str)> {
    let chosen = headers
        .iter()
        .filter(move |(_, value)| value.is_sensitive() == secret);
    chosen.map(|(name, value)| {
        let value = std::str::from_utf8(value.as_bytes());
        (name.as_str(), value.unwrap_or_default())
    })
}

fn owned<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
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
    use crate::encryption::{EncryptionKey, StaticKeys};
    use crate::testing::endpoint_for;

    fn rich() -> Endpoint {
        let headers = CustomHeaders::new([("x-shard", "7")], [("authorization", "Bearer canary")]);
        let settings = EndpointSettings {
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
        };
        let mut endpoint = endpoint_for("acme", settings);
        let url = "https://hooks.example.com/in?canary=query&x=%20\"".parse();
        endpoint.url = url.unwrap();
        endpoint
    }

    fn sealing() -> Encryption {
        Encryption::with(StaticKeys::new(EncryptionKey::random()))
    }

    fn is_shown(row: &EndpointRow, secret: &str) -> bool {
        String::from_utf8_lossy(&row.secrets).contains(secret)
    }

    #[test]
    fn endpoints_come_back_as_they_were() {
        let mut bare = endpoint_for("default", EndpointSettings::default());
        bare.url = "https://hooks.example.com/".parse().unwrap();
        let encryptions = [sealing(), Encryption::plaintext()];
        for (endpoint, encryption) in [rich(), bare]
            .iter()
            .flat_map(|endpoint| encryptions.iter().map(move |it| (endpoint.clone(), it)))
        {
            let row = EndpointRow::seal(&endpoint, encryption).unwrap();
            let back = row.open(encryption).unwrap().whole().unwrap();
            assert_eq!(back.settings, endpoint.settings);
            assert_eq!(back.secret(), endpoint.secret());
            assert_eq!((back.url, back.state), (endpoint.url, endpoint.state));
            assert_eq!(back.updated_at, endpoint.updated_at);
        }
    }

    #[test]
    fn a_filter_from_before_there_were_limits_stays_readable() {
        let mut row = EndpointRow::seal(&rich(), &Encryption::plaintext()).unwrap();
        let large = serde_json::json!({ "a": { "in": vec![1; 10_000] } });
        let mut settings: serde_json::Value = serde_json::from_str(&row.settings).unwrap();
        settings["filter"] = large.clone();
        row.settings = settings.to_string();
        let back = row.open(&Encryption::plaintext()).unwrap().whole().unwrap();
        assert_eq!(back.settings.filter.unwrap().to_json(), large);
    }

    #[test]
    fn nothing_secret_stands_outside_of_what_is_sealed() {
        let plain = EndpointRow::seal(&rich(), &Encryption::plaintext()).unwrap();
        let sealed = EndpointRow::seal(&rich(), &sealing()).unwrap();
        for secret in ["Bearer canary", "canary=query", "whsec_"] {
            assert!(is_shown(&plain, secret) && !is_shown(&sealed, secret));
        }
        for text in [
            sealed.settings.clone(),
            sealed.url.clone(),
            format!("{sealed:?}"),
        ] {
            assert!(
                !text.contains("canary") && !text.contains("whsec_"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_row_from_before_there_were_keys_stays_readable() {
        let endpoint = rich();
        let mut row = EndpointRow::seal(&endpoint, &Encryption::plaintext()).unwrap();
        let before = Secrets {
            query: None,
            ..Secrets::of(&endpoint)
        };
        row.secrets = before.encoded().unwrap().to_vec();
        row.url = endpoint.url.to_string();
        let keys = sealing();
        assert_eq!(row.rekeyed(&Encryption::plaintext()).unwrap(), None);
        let rekeyed = row.rekeyed(&keys).unwrap().unwrap();
        assert!(!is_shown(&rekeyed, "canary") && !rekeyed.url.contains("canary"));
        assert_eq!(rekeyed.rekeyed(&keys).unwrap(), None);
        let back = row.open(&keys).unwrap().whole().unwrap();
        assert_eq!(back.url, endpoint.url);
        assert_eq!(back.settings, endpoint.settings);
    }

    #[test]
    fn without_its_key_an_endpoint_comes_without_its_secrets() {
        let endpoint = rich();
        let row = EndpointRow::seal(&endpoint, &sealing()).unwrap();
        for encryption in [sealing(), Encryption::plaintext()] {
            let opened = row.open(&encryption).unwrap();
            let shown = opened.endpoint();
            assert!(shown.secrets.is_empty() && shown.url.as_url().query().is_none());
            assert_eq!(shown.settings.event_types, endpoint.settings.event_types);
            assert_eq!(shown.settings.headers.as_map().len(), 1);
            assert_eq!(opened.whole().unwrap_err().kind(), ErrorKind::Sealed);
        }
    }

    #[test]
    fn secrets_of_another_endpoint_or_tenant_do_not_open() {
        let keys = sealing();
        let row = EndpointRow::seal(&rich(), &keys).unwrap();
        let (mut other, mut moved) = (row.clone(), row);
        other.id = Uuid::from_u128(1);
        moved.tenant = "other".into();
        for row in [other, moved] {
            let error = row.open(&keys).unwrap().whole().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Sealed);
        }
    }

    /// Who can write to the database still cannot make us send what an endpoint may not carry.
    #[test]
    fn headers_that_no_endpoint_may_set_are_corrupt() {
        let plaintext = Encryption::plaintext();
        let open = |plain: serde_json::Value, secret: serde_json::Value| {
            let mut row = EndpointRow::seal(&rich(), &plaintext).unwrap();
            row.settings = serde_json::json!({ "headers": plain }).to_string();
            let mut secrets: serde_json::Value = serde_json::from_slice(&row.secrets).unwrap();
            secrets["headers"] = secret;
            row.secrets = secrets.to_string().into_bytes();
            row.open(&plaintext).map(drop).map_err(|error| error.kind())
        };
        let header = |name: &str, value: &str| serde_json::json!({ name: value });
        let none = || serde_json::json!({});
        assert_eq!(open(header("x-a", "1"), header("x-b", "2")), Ok(()));
        assert_eq!(open(none(), header("authorization", "Bearer t")), Ok(()));

        let corrupt = Err(ErrorKind::Corrupt);
        for name in [
            "host",
            "Host",
            "content-length",
            "content-type",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "expect",
            "cookie",
            "proxy-authorization",
            "webhook-id",
            "webhook-signature",
            "x a",
            "",
        ] {
            assert_eq!(open(header(name, "1"), none()), corrupt, "{name}");
            assert_eq!(open(none(), header(name, "1")), corrupt, "{name}");
        }
        for value in ["1\r\nhost: b", "1\n", "\r", "\0"] {
            assert_eq!(open(header("x-a", value), none()), corrupt, "{value:?}");
            assert_eq!(open(none(), header("x-a", value)), corrupt, "{value:?}");
        }
        assert_eq!(open(header("authorization", "Bearer t"), none()), corrupt);
        assert_eq!(open(header("x-a", "1"), header("X-A", "2")), corrupt);
        assert_eq!(open(header("x-a", &"v".repeat(8 * 1024)), none()), corrupt);
        let many = (0..33).map(|n| (format!("x-{n}"), "1".into())).collect();
        assert_eq!(open(serde_json::Value::Object(many), none()), corrupt);
    }

    #[test]
    fn what_cannot_be_read_is_corrupt_and_no_panic() {
        let spoil: [fn(&mut EndpointRow); 6] = [
            |row| row.settings = "{".into(),
            |row| row.secrets = b"\xff".into(),
            |row| row.secrets = b"\x01\x05canary".into(),
            |row| row.state = "gone".into(),
            |row| row.url = "not a url".into(),
            |row| row.tenant = String::new(),
        ];
        for spoil in spoil {
            let plaintext = Encryption::plaintext();
            let mut row = EndpointRow::seal(&rich(), &plaintext).unwrap();
            spoil(&mut row);
            let error = row.open(&plaintext).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
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
