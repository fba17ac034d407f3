//! What the variables' texts mean. No error repeats the text.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;
use webhook_delivery::Network;

/// Where events are kept.
pub(crate) enum Database {
    /// In this process.
    Memory,
    /// In the file at this path.
    Sqlite(PathBuf),
    /// On the server at this URL.
    #[cfg(feature = "postgres")]
    Postgres(String),
}

/// What there is if nothing is said.
impl Default for Database {
    fn default() -> Self {
        Self::Sqlite(PathBuf::from("webhook.db"))
    }
}

impl FromStr for Database {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "sqlite" if path.is_empty() || path.contains([':', '?']) => {
                Err("sqlite: takes the path of a file, without options: sqlite:webhook.db")
            }
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(path))),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => Ok(Self::Postgres(url.to_owned())),
            #[cfg(not(feature = "postgres"))]
            "postgres" | "postgresql" => {
                Err("this build has no Postgres: build it with --features postgres,redis")
            }
            _ => Err("must be memory:, sqlite:PATH or postgres://…; unset it for ./webhook.db"),
        }
    }
}

/// The URL of a Postgres database, of its parts.
pub(crate) fn postgres_url(
    host: &str,
    port: u16,
    name: &str,
    user: &str,
    password: Option<&str>,
) -> Result<String, &'static str> {
    let wrong = "must be a host's name or address";
    let mut url = Url::parse("postgres://host").map_err(|_| wrong)?;
    url.set_host(Some(host)).map_err(|_| wrong)?;
    url.set_port(Some(port)).map_err(|()| wrong)?;
    url.set_username(user).map_err(|()| wrong)?;
    url.set_password(password).map_err(|()| wrong)?;
    url.path_segments_mut().map_err(|()| wrong)?.push(name);
    Ok(url.into())
}

/// Networks in CIDR notation, with commas between; none if empty.
#[derive(Clone, Debug)]
pub(crate) struct Networks(pub(crate) Vec<Network>);

impl FromStr for Networks {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let networks = parts.map(str::parse).collect::<Result<_, _>>();
        networks
            .map(Self)
            .map_err(|_| "must be networks such as 10.1.0.0/16, with commas between")
    }
}

/// The delays before each attempt after the first.
#[derive(Clone, Debug)]
pub(crate) struct Schedule(pub(crate) Vec<Duration>);

impl FromStr for Schedule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WEEK: f64 = 604_800.0;
        let delay = |part: &str| seconds(part, 0.0..=WEEK);
        match text.split(',').map(delay).collect::<Result<Vec<_>, _>>() {
            Ok(delays) if delays.len() <= 20 => Ok(Self(delays)),
            _ => Err("must be 1 to 20 numbers of seconds, up to a week each, with commas between"),
        }
    }
}

/// A whole number.
pub(crate) fn whole<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.trim().parse().ok();
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

/// An address, without a port.
pub(crate) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.trim()
        .parse()
        .map_err(|_| "must be an IP address such as 127.0.0.1 or ::")
}

/// A number of seconds, with a fraction or without.
pub(crate) fn seconds(text: &str, range: RangeInclusive<f64>) -> Result<Duration, String> {
    let wrong = || format!("must be {} to {} seconds", range.start(), range.end());
    let seconds: f64 = text.trim().parse().map_err(|_| wrong())?;
    if !range.contains(&seconds) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Levels, alone or of modules. What is no level would be taken for a module's name, and silence all others.
pub(crate) fn log_filter(text: &str) -> Result<Targets, &'static str> {
    let wrong =
        "must be off, error, warn, info, debug or trace, or such as info,webhook_core=debug";
    let has_level = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or(part);
        level.trim().parse::<LevelFilter>().is_ok()
    };
    if !text.split(',').all(has_level) {
        return Err(wrong);
    }
    text.parse().map_err(|_| wrong)
}
