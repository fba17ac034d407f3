//! Hears of every delivery as it is recorded, prints it, and waits.
//!
//! An observer is called from the engine's own loop, so it only passes on; printing happens elsewhere.

use std::collections::HashSet;

use serde_json::Value;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use uuid::Uuid;
use webhook_delivery::{Next, Notice, Observer, Outcome, Report};

use crate::Result;

/// What the observer has passed on.
pub(crate) struct Watch {
    heard: UnboundedReceiver<Heard>,
    ended: HashSet<Uuid>,
}

struct Heard {
    delivery: Uuid,
    is_end: bool,
    line: String,
}

impl Watch {
    pub(crate) fn new() -> (Self, impl Observer) {
        let (pass_on, heard) = mpsc::unbounded_channel();
        let observer = move |notice: &Notice<'_>| {
            if let Some(heard) = Heard::of(notice) {
                pass_on.send(heard).ok();
            }
        };
        let watch = Self {
            heard,
            ended: HashSet::new(),
        };
        (watch, observer)
    }

    /// Prints what happens until all of these have ended.
    pub(crate) async fn until_ended(&mut self, deliveries: &[Uuid]) -> Result<()> {
        while !deliveries.iter().all(|id| self.ended.contains(id)) {
            let heard = self.heard.recv().await.ok_or("the engine is gone")?;
            println!("{}", heard.line);
            if heard.is_end {
                self.ended.insert(heard.delivery);
            }
        }
        Ok(())
    }
}

impl Heard {
    fn of(notice: &Notice<'_>) -> Option<Self> {
        let (sign, report, is_end) = match notice {
            Notice::Delivered(report) => ("✓", report, true),
            Notice::AttemptFailed(report) => ("↻", report, false),
            Notice::DeadLettered(report) => ("✗", report, true),
            Notice::Cancelled(report) => ("·", report, true),
            _ => return None,
        };
        let name = &report.endpoint.settings.description;
        let what = format!("{} ({})", report.event.event_type, name_of(report));
        Some(Self {
            delivery: report.delivery_id,
            is_end,
            line: format!("  {sign} /{name:<13} {what:<28} {}", outcome(report)),
        })
    }
}

fn name_of(report: &Report<'_>) -> String {
    let data = report.event.data().unwrap_or_default();
    let data: Value = serde_json::from_slice(&data).unwrap_or_default();
    data["name"].as_str().unwrap_or_default().to_owned()
}

fn outcome(report: &Report<'_>) -> String {
    let attempt = report.attempt;
    let failure = report.outcome.and_then(Outcome::failure);
    let failure = failure.map_or_else(String::new, |failure| format!(", {failure}"));
    match report.next {
        Next::Succeeded => format!("delivered, attempt {attempt}"),
        Next::RetryAfter(delay) => {
            format!(
                "attempt {attempt}{failure}; again in {} ms",
                delay.as_millis()
            )
        }
        Next::Failed(reason) => {
            format!(
                "attempt {attempt}{failure}; a dead letter, {}",
                reason.as_str()
            )
        }
        Next::Cancelled(reason) => format!("not sent, {}", reason.as_str()),
    }
}
