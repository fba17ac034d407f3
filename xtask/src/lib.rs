//! The project's own commands, and the [`services`] that its tests need.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod browser;
mod cost;
mod deploy;
mod lint;
mod mutants;
mod node;
mod openapi;
mod packages;
mod process;
mod promtool;
mod python;
mod receivers;
pub mod services;
mod steps;
#[cfg(test)]
mod temp;
mod tree;

const HELP: &str = "\
The project's own commands.

Usage: cargo xtask <command>

  test                 Everything that CI runs, step by step, up to the first failure; of the planted
                       bugs, five and those whose turn it is at this commit
  services [COMMAND…]  Starts the servers that tests need, installed if they are not, and keeps them
                       while the command runs; without one, until interrupted
  mutants [NAME…]      Plants each bug of tests/mutants/ in a copy of the tree and proves that the
                       tests named for it fail; without names, all of them
  openapi              Asks a running platform whatever its OpenAPI document allows and forbids
  promtool             Judges deploy/prometheus/ and what the tests of the API left of GET /metrics
  receivers            Sends webhooks to examples/receivers/, with their libraries installed below target/
  browser [FILTER]     Uses the dashboard in Chromium, as people do
  screenshots          Takes the pictures in docs/screenshots/ anew
  cost                 What the hot path costs, in instructions and allocations, beside its limits
  deploy               Judges the files in deploy/ by their schemas
  lint                 The house rules that no compiler checks

Tests find servers in DATABASE_URL, REDIS_URL, REDIS_CLUSTER_URL and REDIS_SENTINEL_URL, and chromedriver in
WEBDRIVER_URL: what is set is used, and what is not is started. tests/mutants/README.md says how a planted bug is written down.
";

/// What went wrong, for people to read.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Does what the arguments of this process say.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<ExitCode> {
    if let [.., "-h" | "--help"] = args {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    match args {
        ["test"] => return steps::run(&root()?),
        ["step", name] => steps::run_apart(&root()?, name)?,
        ["services", command @ ..] => services::run(command)?,
        ["openapi"] => openapi::run(&root()?)?,
        ["promtool"] => promtool::run(&root()?)?,
        ["receivers"] => receivers::run(&root()?)?,
        ["browser", words @ ..] => browser::run(&root()?, words)?,
        ["screenshots"] => browser::take_screenshots(&root()?)?,
        ["cost"] => cost::run(&root()?)?,
        ["deploy"] => deploy::run(&root()?)?,
        ["lint"] => lint::run(&root()?)?,
        ["mutants", names @ ..] => mutants::run_alone(&root()?, names)?,
        _ => return Err(HELP.to_owned()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The workspace's folder. `cargo run` says where this package is now; it may have moved since it was
/// compiled.
fn root() -> Result<PathBuf> {
    let package =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&package).join("..");
    root.canonicalize()
        .map_err(|error| format!("{}: {error}", root.display()))
}
