//! What the steady run does not show: endpoints beside each other, limits, and what follows an outage.

mod catchup;
mod drain;
mod fairness;
mod fanout;
mod growth;
pub(crate) mod idle;
mod idle_in_transaction;
mod latency;
mod ratelimit;

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use webhook_delivery::{NewEndpoint, NewEvent, Tenant};

use crate::engine::data;
use crate::report::{Round, Spent, median};
use crate::sink::Sink;
use crate::{Options, Result, Scenario};

/// What a scenario found: figures by name, each with its unit, and what should not have been.
pub(crate) struct Finding {
    scenario: Scenario,
    store: String,
    figures: Vec<(String, f64, &'static str)>,
    broken: Vec<String>,
}

impl Finding {
    fn new(options: &Options) -> Self {
        Self {
            scenario: options.scenario,
            store: format!("{:?}", options.store).to_lowercase(),
            figures: Vec::new(),
            broken: Vec::new(),
        }
    }

    fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push((name.into(), value, unit));
    }

    /// The median rounds of the engine in two ways, and of the bare loop beside them.
    fn compare(&mut self, bare: &[Round], steady: &[Round], rounds: &[Round]) {
        let per_second = |rounds: &[Round]| median(rounds.iter().map(Round::per_second));
        let [bare_rate, steady_rate, rate] = [bare, steady, rounds].map(per_second);
        self.figure("bare_per_second", bare_rate, "requests/s of the bare loop");
        self.figure("steady_per_second", steady_rate, "deliveries/s, steady");
        self.figure("per_second", rate, "deliveries/s");
        self.figure("ratio_to_steady", rate / steady_rate, "");
        self.figure("ratio_to_bare", rate / bare_rate, "");
        self.spent(rounds[rounds.len() / 2].spent, "a delivery");
        self.expect(
            [bare, steady, rounds]
                .into_iter()
                .flatten()
                .all(Round::is_complete),
            "not each event was received exactly once",
        );
    }

    /// What the databases did for each of something.
    fn spent(&mut self, spent: Option<Spent>, unit: &'static str) {
        let Some(spent) = spent else { return };
        self.figure("statements", spent.statements, unit);
        if let Some(here) = spent.statements_here {
            self.figure("statements_here", here, "of the schema alone");
        }
        self.figure("wal_bytes", spent.wal_bytes, unit);
        if let Some((commands, scripts)) = spent.redis_commands.zip(spent.redis_scripts) {
            self.figure("redis_commands", commands, unit);
            self.figure("redis_scripts", scripts, "of these");
        }
    }

    /// Notes what is not as promised.
    fn expect(&mut self, holds: bool, promise: impl Into<String>) {
        if !holds {
            self.broken.push(promise.into());
        }
    }

    /// Fails if a promise was broken.
    pub(crate) fn check(&self) -> Result<()> {
        if self.broken.is_empty() {
            Ok(())
        } else {
            Err(self.broken.join("; ").into())
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("scenario", &self.scenario.to_string())?;
        map.serialize_entry("store", &self.store)?;
        for (name, value, _) in &self.figures {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("broken", &self.broken)?;
        map.end()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.store, self.scenario)?;
        for (name, value, unit) in &self.figures {
            write!(f, "\n  {:<28} {value:>12.3} {unit}", name.replace('_', " "))?;
        }
        for broken in &self.broken {
            write!(f, "\n  BROKEN: {broken}")?;
        }
        Ok(())
    }
}

/// Runs the one that was asked for.
pub(crate) async fn measure(options: &Options) -> Result<Finding> {
    match options.scenario {
        Scenario::Drain => drain::measure(options).await,
        Scenario::Fanout => fanout::measure(options).await,
        Scenario::Idle => idle::measure(options).await,
        Scenario::IdleInTransaction => idle_in_transaction::measure(options).await,
        Scenario::Latency => latency::measure(options).await,
        Scenario::Growth => growth::measure(options).await,
        Scenario::Fairness => fairness::measure(options).await,
        Scenario::Ratelimit => ratelimit::measure(options).await,
        Scenario::Catchup => catchup::measure(options).await,
        Scenario::Steady => Err("the steady run is no scenario of these".into()),
    }
}

/// The only endpoint of tenant `number`, at this path of the receiver.
fn endpoint(sink: &Sink, path: &str, number: u32) -> Result<NewEndpoint> {
    let url = sink.url_of(&format!("{path}/{number}")).parse()?;
    Ok(NewEndpoint::new(url).tenant(tenant(number)?))
}

/// An event for it.
fn event(options: &Options, number: u32) -> Result<NewEvent> {
    let event = NewEvent::data("load.test", data(options, u64::from(number)))?;
    Ok(event.tenant(tenant(number)?))
}

fn tenant(number: u32) -> Result<Tenant> {
    Ok(Tenant::new(&format!("tenant-{number}"))?)
}
