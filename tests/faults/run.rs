//! What becomes of accepted events when things break: real processes, real kills, and an oracle.
//!
//! `cargo run --all-features --example faults` does each harm once; `--list` names them. Producers write down
//! what was accepted, a receiver what arrived, both synced to the disk before anybody is told; the oracle joins
//! the two. Nothing may be lost, nothing written by an owner that is none any more, and no more delivered
//! twice than was under way when the harm was done. A fault that did no harm voids its run, which is a failure.

#![allow(clippy::disallowed_methods, reason = "faults happen in real time")]

mod arena;
mod disk;
mod faults;
mod journal;
mod node;
mod oracle;
mod proxy;
mod servers;
mod sink;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use arena::Arena;
use faults::{FAULTS, Fault};
use node::{Duties, Place};
use oracle::Verdict;
use servers::{Servers, Setting};

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
    let (mut passed, mut failed) = (0, 0);
    for seed in options.seed.. {
        println!("seed {seed}\n{}", oracle::head());
        for (fault, setting) in &runs {
            match try_one(fault, *setting, &mut servers, seed) {
                true => passed += 1,
                false => failed += 1,
            }
        }
        if began.elapsed() >= limit {
            break;
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(match (passed, failed) {
        (1.., 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
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
fn try_one(fault: &Fault, setting: Setting, servers: &mut Servers, seed: u64) -> bool {
    let name = name(fault, setting);
    let folder = std::env::temp_dir().join(format!(
        "webhook-faults-{}/{}-{}-{seed}",
        std::process::id(),
        fault.name,
        setting.name()
    ));
    let came_of_it = harm(fault, setting, servers, &folder, seed);
    servers.leave();
    let problems = match came_of_it {
        Ok(verdict) => {
            println!("{name:<34} {verdict}");
            verdict.problems()
        }
        Err(error) => {
            println!("{name:<34} void");
            vec![error.to_string()]
        }
    };
    for problem in &problems {
        println!("  FAILED: {problem}");
    }
    if problems.is_empty() {
        let _ = fs::remove_dir_all(&folder);
        // Only when it is empty.
        let _ = folder.parent().map(fs::remove_dir);
    } else {
        println!("  what happened is in {}", folder.display());
    }
    problems.is_empty()
}

fn harm(
    fault: &Fault,
    setting: Setting,
    servers: &mut Servers,
    folder: &Path,
    seed: u64,
) -> Result<Verdict> {
    fs::create_dir_all(folder)?;
    let place = Place {
        lease_margin: fault.lease_margin,
        ..servers.place(setting, folder)?
    };
    let mut arena = Arena::new(folder, setting, place, seed)?;
    let fired = (fault.run)(&mut arena, servers)?;
    arena.settle(fired)
}
