//! What becomes of accepted events when things break: real processes, real kills, and an oracle.
//!
//! `cargo run --all-features --example faults` does each harm once; `--list` names them. Producers write down
//! what was accepted, a receiver what arrived, both synced to the disk before anybody is told; the oracle joins
//! the two. Nothing may be lost, nothing written by an owner that is none any more, and no more delivered
//! twice than was under way when the harm was done. A fault that did no harm voids its run, which is a failure.

#![allow(clippy::disallowed_methods, reason = "faults happen in real time")]

mod arena;
mod attempts;
mod disk;
mod faults;
mod journal;
mod load;
mod node;
mod oracle;
mod producer;
mod proxy;
mod servers;
mod shop;
mod sink;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use arena::Arena;
use faults::{FAULTS, Fault};
use load::Kind;
use node::{Duties, Place};
use oracle::Verdict;
use servers::{Impossible, Servers, Setting};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Breaks things while events are delivered, and tells what became of them.
#[derive(Debug, Parser)]
struct Options {
    /// Only faults whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Repeats all of them for so many minutes, each time with the next seed.
    #[arg(long, value_name = "MINUTES")]
    long: Option<u64>,
    /// Where the choice of moments and victims begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Names the faults.
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is when it starts itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// A host of the engine.
    #[command(hide = true)]
    Node {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        duties: Duties,
    },
    /// The receiver.
    #[command(hide = true)]
    Sink { journal: PathBuf },
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    match &options.role {
        Some(Role::Node { place, duties }) => node::serve(place, duties)?,
        Some(Role::Sink { journal }) => sink::serve(journal)?,
        None => return run(&options),
    }
    Ok(ExitCode::SUCCESS)
}

fn run(options: &Options) -> Result<ExitCode> {
    let runs = chosen(&options.only);
    if options.list {
        for (fault, setting) in runs {
            println!("{}", name(fault, setting));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let limit = Duration::from_secs(options.long.unwrap_or(0) * 60);
    let mut servers = Servers::default();
    let mut tally = Tally::default();
    for seed in options.seed.. {
        println!("seed {seed}\n{}", oracle::head());
        for (fault, setting) in &runs {
            tally.count(try_one(fault, *setting, &mut servers, seed));
        }
        if began.elapsed() >= limit {
            break;
        }
    }
    println!("{tally} in {} s", began.elapsed().as_secs());
    Ok(tally.code())
}

fn chosen(only: &[String]) -> Vec<(&'static Fault, Setting)> {
    let runs = FAULTS
        .iter()
        .flat_map(|fault| fault.settings.iter().map(move |setting| (fault, *setting)));
    let is_chosen = |(fault, setting): &(&Fault, Setting)| {
        only.is_empty() || only.iter().any(|part| name(fault, *setting).contains(part))
    };
    runs.filter(is_chosen).collect()
}

fn name(fault: &Fault, setting: Setting) -> String {
    format!("{} ({})", fault.name, setting.name())
}

/// Prints what came of it. The journals of a run that failed stay.
fn try_one(fault: &Fault, setting: Setting, servers: &mut Servers, seed: u64) -> Ended {
    let name = format!("| {:<20} | {:<19} |", fault.name, setting.name());
    let folder = std::env::temp_dir().join(format!(
        "webhook-faults-{}/{}-{setting:?}-{seed}",
        std::process::id(),
        fault.name,
    ));
    let came_of_it = harm(fault, setting, servers, &folder, seed);
    let left = servers.leave();
    let mut problems = match &came_of_it {
        Ok(verdict) => {
            println!("{name} {verdict}");
            verdict.problems()
        }
        Err(error) if error.is::<Impossible>() => {
            println!("{name} left out: {error}");
            Vec::new()
        }
        Err(error) => {
            println!("{name} void");
            vec![error.to_string()]
        }
    };
    problems.extend(left.err().map(|error| error.to_string()));
    for problem in &problems {
        println!("  FAILED: {problem}");
    }
    if !problems.is_empty() {
        println!("  what happened is in {}", folder.display());
        return Ended::Failed;
    }
    let _ = fs::remove_dir_all(&folder);
    // Only when it is empty.
    let _ = folder.parent().map(fs::remove_dir);
    match came_of_it {
        Ok(verdict) => Ended::Passed(Box::new(verdict)),
        Err(_) => Ended::LeftOut,
    }
}

/// How a run ended.
enum Ended {
    Passed(Box<Verdict>),
    Failed,
    LeftOut,
}

/// What all runs came to.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    left_out: u64,
    /// The calls of each kind that were accepted in those that passed.
    accepted: BTreeMap<Kind, u64>,
    withdrawn: u64,
    declined: u64,
    again: u64,
}

impl Tally {
    fn count(&mut self, ended: Ended) {
        match ended {
            Ended::Passed(verdict) => {
                self.passed += 1;
                let account = &verdict.account;
                for call in account.accepted.keys() {
                    *self.accepted.entry(call.kind).or_default() += 1;
                }
                self.withdrawn += account.withdrawn.len() as u64;
                self.declined += account.declined.values().flatten().count() as u64;
                self.again += account.again;
            }
            Ended::Failed => self.failed += 1,
            Ended::LeftOut => self.left_out += 1,
        }
    }

    fn code(&self) -> ExitCode {
        match (self.passed, self.failed) {
            (1.., 0) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accepted:")?;
        for (kind, count) in &self.accepted {
            write!(f, " {count} {},", kind.as_str())?;
        }
        let Self {
            passed,
            failed,
            left_out,
            withdrawn,
            declined,
            again,
            ..
        } = self;
        writeln!(
            f,
            " and {withdrawn} rolled back; {declined} attempts declined, {again} calls repeated under their key"
        )?;
        write!(f, "{passed} passed, {failed} failed, {left_out} left out")
    }
}

fn harm(
    fault: &Fault,
    setting: Setting,
    servers: &mut Servers,
    folder: &Path,
    seed: u64,
) -> Result<Verdict> {
    fs::create_dir_all(folder)?;
    let mut site = servers.site(setting, folder)?;
    site.place.lease_margin = fault.lease_margin;
    let mut arena = Arena::new(folder, setting, site, seed)?;
    let fired = (fault.run)(&mut arena, servers)?;
    arena.settle(fired)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_role_can_be_told_what_to_do() {
        Options::command().debug_assert();
    }
}
