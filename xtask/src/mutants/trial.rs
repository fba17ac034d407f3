//! One run of a check: what the tests said.

use std::process::Command;
use std::time::Duration;

use super::Copy;
use super::mutant::Check;
use crate::Result;
use crate::process::{Finished, cargo, run_within};

/// Far more than cargo takes to compile everything, on a small machine.
const TO_COMPILE: Duration = Duration::from_secs(1800);

/// Far more than any check takes.
const TO_RUN: Duration = Duration::from_secs(120);

/// The same where a test without an end is no surprise.
const TO_RUN_IF_IT_MAY_HANG: Duration = Duration::from_secs(30);

/// The lines of output that are shown of what is not as it should be.
const SHOWN: usize = 30;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// So many tests ran, and none failed.
    Passed { tests: usize },
    /// Tests ran, and some failed.
    Failed,
    /// They were killed.
    Hung { output: String },
    /// There was nothing to run.
    DoesNotCompile { output: String },
    /// Something else than a test failed: cargo, or the whole process.
    Broke { output: String },
}

/// Compiles, then runs the tests: a mutant that does not compile proves nothing of them.
pub(super) fn run(copy: &Copy, check: &Check, may_hang: bool) -> Result<Trial> {
    let failed = |error| format!("cargo test: {error}");
    let compile = test(copy, check, &["--no-run"]);
    let compiled = run_within(compile, TO_COMPILE).map_err(failed)?;
    if !compiled.status.is_some_and(|status| status.success()) {
        let output = compiled.output;
        return Ok(Trial::DoesNotCompile { output });
    }
    let limit = if may_hang {
        TO_RUN_IF_IT_MAY_HANG
    } else {
        TO_RUN
    };
    let finished = run_within(test(copy, check, &[]), limit).map_err(failed)?;
    Ok(judge(finished))
}

fn test(copy: &Copy, check: &Check, options: &[&str]) -> Command {
    let mut test = cargo(&copy.tree);
    test.envs(copy.environment.iter().map(|(name, url)| (name, url)));
    test.env("CARGO_TARGET_DIR", &copy.target);
    // Dependencies are shared with the workspace; its packages are not, as the copy's have other paths.
    // A cargo older than 1.91 ignores this and compiles them again.
    if let Some(shared) = copy.target.parent() {
        test.env("CARGO_BUILD_BUILD_DIR", shared);
    }
    // Each mutant changes a few lines: let the compiler reuse the rest, also where CI says otherwise.
    test.env("CARGO_INCREMENTAL", "1");
    test.env("CARGO_TERM_COLOR", "never");
    test.args(["test", "--package", &check.package, "--all-features"]);
    test.args(options).args(&check.words);
    test
}

fn judge(finished: Finished) -> Trial {
    let output = finished.output;
    let Some(status) = finished.status else {
        return Trial::Hung { output };
    };
    match status.code() {
        Some(0) => Trial::Passed {
            tests: count(&output),
        },
        Some(101) if output.contains("test result: FAILED") => Trial::Failed,
        _ => Trial::Broke { output },
    }
}

/// The tests that passed, by libtest's own account: `test result: ok. 2 passed; 0 failed; …`.
fn count(output: &str) -> usize {
    let results = output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "));
    let passed = results.filter_map(|line| line.split(' ').next()?.parse::<usize>().ok());
    passed.sum()
}

impl Trial {
    /// What happened, in a line, and the end of the output where that helps.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Passed { tests: 0 } => "no test of that name ran".to_owned(),
            Self::Passed { tests } => format!("passed ({tests} tests)"),
            Self::Failed => "failed".to_owned(),
            Self::Hung { output } => format!("was killed, as it did not end\n{}", end(output)),
            Self::DoesNotCompile { output } => format!("does not compile\n{}", end(output)),
            Self::Broke { output } => format!("broke without a failed test\n{}", end(output)),
        }
    }
}

fn end(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
