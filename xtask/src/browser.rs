//! The dashboard in a real browser: its tests, and the pictures of it in the documentation.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::process::{cargo, line, succeed};
use crate::services::Driver;

/// Where the pictures are.
const PICTURES: &str = "docs/screenshots";

/// Lets the tests drive it: all of them, or those that these words name.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result {
    let driver = Driver::start()?;
    show(tests(root).args(words).envs(driver.environment()))
}

/// Takes the pictures anew.
pub(crate) fn take_screenshots(root: &Path) -> Result {
    let driver = Driver::start()?;
    let mut tests = tests(root);
    tests.envs(driver.environment());
    tests.env("SCREENSHOTS", root.join(PICTURES));
    show(tests.arg("screenshots::"))
}

fn tests(root: &Path) -> Command {
    let mut test = cargo(root);
    test.args(["test", "--locked", "--package", "webhook-axum"]);
    test.args(["--all-features", "--test", "browser"]);
    test
}

fn show(command: &mut Command) -> Result {
    println!("{}", line(command));
    succeed(command)
}
