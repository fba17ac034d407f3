//! What the steps came to.

use std::process::ExitCode;

use crate::Result;

/// A row for each step, and a count.
#[derive(Default)]
pub(super) struct Summary {
    table: String,
    passed: usize,
    failed: usize,
}

impl Summary {
    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    pub(super) fn not_run(&mut self, name: &str) {
        self.table += &row(name, "not run", "");
    }

    /// Notes what came of a step, and gives the line that says so.
    pub(super) fn ended(&mut self, name: &str, time: &str, result: Result) -> String {
        match result {
            Ok(()) => {
                self.passed += 1;
                self.table += &row(name, "passed", time);
                format!("==> {name}: passed in {time}")
            }
            Err(error) => {
                self.failed += 1;
                self.table += &row(name, "FAILED", time);
                format!("==> {name}: FAILED after {time}: {error}")
            }
        }
    }

    /// Adds the steps of another below its own.
    pub(super) fn append(&mut self, other: &Self) {
        self.table += &other.table;
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// The table, these notes below it, and the count as the last line.
    pub(super) fn told(&self, notes: &[String]) -> String {
        let notes: String = notes.iter().map(|note| format!("{note}\n")).collect();
        let Self {
            table,
            passed,
            failed,
        } = self;
        format!("{table}{notes}\n{passed} passed, {failed} failed")
    }

    pub(super) fn code(&self) -> ExitCode {
        match self.has_failed() {
            false => ExitCode::SUCCESS,
            true => ExitCode::FAILURE,
        }
    }
}

fn row(name: &str, state: &str, time: &str) -> String {
    format!("{name:<12} {state:<8} {time:>8}\n")
}
