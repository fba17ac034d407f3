//! Draws charts from statistics, as SVG. Pure.
//!
//! Texts are beside the drawing, because the drawing is stretched to the room that there is.

use std::time::Duration;

use webhook_core::{Stats, Tally, Timestamp, Trend};

use super::format::{number, span, utc};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 100.0;
/// How many times stand below a chart.
const TIMES: u32 = 3;

/// Bars side by side, one per step of time.
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    /// How many attempts the top, the middle and the foot stand for.
    pub(super) scale: [String; 3],
    /// What stands below, from left to right.
    pub(super) times: Vec<Timestamp>,
    /// How long a step is.
    pub(super) step: String,
    /// All of it in a sentence, for those who do not see it.
    pub(super) description: String,
}

/// What succeeded, and above it what failed.
pub(super) struct Bar {
    pub(super) at: Timestamp,
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
        let series = stats.series.iter();
        let steps: Vec<_> = series.map(|(at, it)| (*at, it.into())).collect();
        Self::of(&steps, stats.since, stats.now, stats.step)
    }

    /// Attempts at one endpoint.
    pub(super) fn trend(trend: &Trend, now: Timestamp) -> Self {
        let steps = &trend.steps;
        let since = steps.first().map_or(now, |(at, _)| *at);
        Self::of(steps, since, now, Duration::from_secs(3_600))
    }

    fn of(steps: &[(Timestamp, Tally)], since: Timestamp, now: Timestamp, step: Duration) -> Self {
        let busiest = steps.iter().max_by_key(|(_, it)| it.attempts());
        let top = top(busiest.map_or(0, |(_, it)| it.attempts()));
        let width = WIDTH / steps.len().max(1) as f64;
        let numbered = steps.iter().enumerate();
        let between = |index| since + now.since(since) / (TIMES - 1) * index;
        Self {
            bars: numbered
                .map(|(index, (at, tally))| bar(index as f64 * width, width, top, *at, *tally))
                .collect(),
            scale: [number(top), number(top / 2), number(0)],
            times: (0..TIMES).map(between).collect(),
            step: span(step),
            description: description(steps, busiest),
        }
    }
}

/// A number that is easy to read, that no bar exceeds, and whose half is whole.
fn top(most: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for digit in [2, 4, 6, 10] {
            let top = power.saturating_mul(digit);
            if top >= most {
                return top;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn bar(x: f64, step: f64, top: u64, at: Timestamp, tally: Tally) -> Bar {
    let scale = |count: u64| count as f64 / top as f64 * HEIGHT;
    let (good, bad) = (scale(tally.succeeded), scale(tally.failed));
    Bar {
        at,
        x: format!("{x:.1}"),
        width: format!("{:.1}", (step - 1.0).max(0.5)),
        good_y: format!("{:.1}", HEIGHT - good),
        good_height: format!("{good:.1}"),
        bad_y: format!("{:.1}", HEIGHT - good - bad),
        bad_height: format!("{bad:.1}"),
        title: format!("{}: {}", utc(&at), in_words(tally)),
    }
}

fn in_words(tally: Tally) -> String {
    let (good, bad) = (number(tally.succeeded), number(tally.failed));
    format!("{good} succeeded, {bad} failed")
}

fn description(steps: &[(Timestamp, Tally)], busiest: Option<&(Timestamp, Tally)>) -> String {
    let succeeded = steps.iter().map(|(_, it)| it.succeeded).sum();
    let failed = steps.iter().map(|(_, it)| it.failed).sum();
    let all = in_words(Tally { succeeded, failed });
    match busiest {
        Some((at, most)) if most.attempts() > 0 => {
            let most = number(most.attempts());
            format!("{all}. At most {most} in a step, that of {}.", utc(at))
        }
        _ => "No attempts.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_of_round_numbers_and_above_all_bars() {
        for (most, expected) in [
            (0, 2),
            (1, 2),
            (3, 4),
            (7, 10),
            (11, 20),
            (59, 60),
            (61, 100),
        ] {
            assert_eq!(top(most), expected, "{most}");
        }
        assert!(top(u64::MAX) == u64::MAX);
    }

    #[test]
    fn bars_stand_on_each_other_and_none_leaves_the_drawing() {
        let tally = Tally {
            succeeded: 30,
            failed: 10,
        };
        let bar = bar(0.0, 5.0, 40, Timestamp::EPOCH, tally);
        assert_eq!((&*bar.bad_y, &*bar.bad_height), ("0.0", "25.0"));
        assert_eq!((&*bar.good_y, &*bar.good_height), ("25.0", "75.0"));
    }
}
