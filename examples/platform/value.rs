//! What the variables' texts mean. No error repeats the text.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use webhook_delivery::Network;

/// The store that this build has: `memory:`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory;

impl FromStr for Memory {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        match url {
            "memory:" => Ok(Self),
            _ => Err("this build has memory only; use DATABASE_URL=memory:"),
        }
    }
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
