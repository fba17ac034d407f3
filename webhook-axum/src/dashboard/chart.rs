//! Charts as SVG, drawn from statistics. Pure.

use webhook_core::{Stats, StatsCounts, Timestamp};

use super::format::number;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 120.0;

/// Bars side by side, one per step of time.
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    /// The highest bar, for the axis.
    pub(super) most: String,
    pub(super) since: Timestamp,
    pub(super) now: Timestamp,
}

/// What succeeded, and above it what failed.
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) good_y: String,
    pub(super) good_height: String,
    pub(super) bad_y: String,
    pub(super) bad_height: String,
    pub(super) title: String,
}

impl Chart {
    /// Attempts by whether they succeeded.
    pub(super) fn attempts(stats: &Stats) -> Self {
        let most = stats.series.iter().map(|(_, counts)| counts.attempts());
        let most = most.max().unwrap_or(0);
        let step = WIDTH / stats.series.len().max(1) as f64;
        let numbered = stats.series.iter().enumerate();
        Self {
            bars: numbered
                .map(|(index, (at, counts))| bar(index as f64 * step, step, most, *at, counts))
                .collect(),
            most: number(most),
            since: stats.since,
            now: stats.now,
        }
    }
}

fn bar(x: f64, step: f64, most: u64, at: Timestamp, counts: &StatsCounts) -> Bar {
    let scale = |count: u64| count as f64 / most.max(1) as f64 * HEIGHT;
    let (good, bad) = (scale(counts.delivered), scale(counts.failed_attempts()));
    Bar {
        x: format!("{x:.1}"),
        width: format!("{:.1}", (step - 1.0).max(0.5)),
        good_y: format!("{:.1}", HEIGHT - good),
        good_height: format!("{good:.1}"),
        bad_y: format!("{:.1}", HEIGHT - good - bad),
        bad_height: format!("{bad:.1}"),
        title: format!(
            "{}: {} succeeded, {} failed",
            super::format::utc(&at),
            counts.delivered,
            counts.failed_attempts()
        ),
    }
}
