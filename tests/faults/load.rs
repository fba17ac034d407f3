//! What is enqueued while things break: calls of all kinds, chosen by the seed, and where each must arrive.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The events of a batch.
pub(crate) const BATCH: u8 = 3;

/// A way to enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// One event to one endpoint.
    Plain,
    /// One event to two endpoints, one of which fails some attempts.
    Wide,
    /// Under an idempotency key: enqueued again after an answer that leaves it open.
    Keyed,
    /// [`BATCH`] events, all or none.
    Batch,
    /// In a transaction of the host that commits.
    Committed,
    /// In a transaction of the host that is rolled back.
    Withdrawn,
    /// To be delivered a moment later.
    Delayed,
    /// One after the other, to an endpoint that keeps the order and fails some attempts.
    Ordered,
}

/// An endpoint of a tenant, by the path of its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Route {
    /// Takes what comes.
    Steady,
    /// Declines the first one or two requests of most events.
    Flaky,
    /// Keeps the order, and declines the first request of some events.
    Ordered,
}

/// One event, as whoever enqueues it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    /// The node that enqueues it.
    pub(crate) producer: u32,
    pub(crate) number: u64,
    /// Its place in a batch.
    pub(crate) part: u8,
}

/// An event on its way to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Delivery {
    pub(crate) event: Uuid,
    pub(crate) route: Route,
}

/// Not the text of a [`Call`], a [`Kind`] or a [`Route`].
#[derive(Debug)]
pub(crate) struct Unknown;

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Plain,
        Self::Wide,
        Self::Keyed,
        Self::Batch,
        Self::Committed,
        Self::Withdrawn,
        Self::Delayed,
        Self::Ordered,
    ];

    /// Any but [`Kind::Ordered`], by a random number: that one is enqueued beside the others, at its own pace.
    pub(crate) fn chosen(random: u64) -> Self {
        match random % 20 {
            0..6 => Self::Plain,
            6..10 => Self::Wide,
            10..13 => Self::Keyed,
            13..14 => Self::Batch,
            14..17 => Self::Committed,
            17..18 => Self::Withdrawn,
            _ => Self::Delayed,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Wide => "wide",
            Self::Keyed => "keyed",
            Self::Batch => "batch",
            Self::Committed => "committed",
            Self::Withdrawn => "withdrawn",
            Self::Delayed => "delayed",
            Self::Ordered => "ordered",
        }
    }

    pub(crate) fn event_type(self) -> String {
        format!("fault.{}", self.as_str())
    }

    /// Where its events must arrive.
    pub(crate) fn routes(self) -> &'static [Route] {
        match self {
            Self::Wide => &[Route::Steady, Route::Flaky],
            Self::Ordered => &[Route::Ordered],
            _ => &[Route::Steady],
        }
    }
}

impl Route {
    pub(crate) const ALL: [Self; 3] = [Self::Steady, Self::Flaky, Self::Ordered];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Steady => "/steady",
            Self::Flaky => "/flaky",
            Self::Ordered => "/ordered",
        }
    }

    /// How many requests of an event it declines before it takes one.
    pub(crate) fn declines(self, event: Uuid) -> u64 {
        let random = mixed(event.as_u64_pair().1);
        match self {
            Self::Steady => 0,
            Self::Flaky => random % 3,
            Self::Ordered => u64::from(random.is_multiple_of(8)),
        }
    }
}

impl Call {
    /// How much later than it is enqueued it is to be delivered, in microseconds.
    pub(crate) fn delay(self) -> i64 {
        match self.kind {
            Kind::Delayed => 100_000 + i64::from(self.number.to_le_bytes()[0]) * 3_000,
            _ => 0,
        }
    }

    /// As the event's data.
    pub(crate) fn data(self) -> String {
        format!(r#"{{"call":"{self}"}}"#)
    }
}

/// SplitMix64's way to make numbers look random.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        write!(f, "{kind}-{}-{}-{}", self.producer, self.number, self.part)
    }
}

impl FromStr for Call {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let parts: Vec<&str> = text.split('-').collect();
        let [kind, producer, number, part] = parts[..] else {
            return Err(Unknown);
        };
        let kind = Kind::ALL.into_iter().find(|it| it.as_str() == kind);
        let (Ok(producer), Ok(number), Ok(part)) = (producer.parse(), number.parse(), part.parse())
        else {
            return Err(Unknown);
        };
        Ok(Self {
            kind: kind.ok_or(Unknown)?,
            producer,
            number,
            part,
        })
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.event, self.route.path())
    }
}

impl FromStr for Delivery {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let (event, route) = text.split_once('/').ok_or(Unknown)?;
        let mut routes = Route::ALL.into_iter();
        Ok(Self {
            event: event.parse().map_err(|_| Unknown)?,
            route: routes.find(|it| &it.path()[1..] == route).ok_or(Unknown)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_but_the_ordered_comes_up() {
        let chosen: Vec<_> = (0..200).map(|number| Kind::chosen(mixed(number))).collect();
        for kind in Kind::ALL {
            assert_eq!(chosen.contains(&kind), kind != Kind::Ordered, "{kind:?}");
        }
    }

    #[test]
    fn a_flaky_endpoint_declines_some_events_and_takes_each_in_the_end() {
        let declined = |route: Route| {
            let events = (0..100).map(Uuid::from_u128);
            let declined: Vec<_> = events.map(|event| route.declines(event)).collect();
            (
                declined.iter().min().copied(),
                declined.iter().max().copied(),
            )
        };
        assert_eq!(declined(Route::Steady), (Some(0), Some(0)));
        assert_eq!(declined(Route::Flaky), (Some(0), Some(2)));
        assert_eq!(declined(Route::Ordered), (Some(0), Some(1)));
    }
}
