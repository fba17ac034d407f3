//! The engine on memory backends, in a world where time, chance and death are the test's.
//!
//! A seed is a story: some endpoints and how they behave, some processes on one store (with or without a
//! queue beside it), and what is asked of them. Each call through a seam can be delayed, fail or be the last of
//! its process, before it takes effect and after. Then the faults stop, everything must come to its end, and
//! all promises are judged. A seed always tells the same story, to the last step.
//!
//! `SIMULATION_SEED=7` runs that one and prints all of it; `SIMULATION_SEEDS=100000` runs more than usual.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod audit;
mod clients;
mod ledger;
mod process;
mod replays;
mod scenario;
mod seams;
mod transport;
mod world;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use scenario::Simulation;
use world::{Fault, Point, Side};

/// How many stories CI hears.
const SEEDS: u64 = 6_000;
/// The first of them, by themselves: a stale owner that records is met in one of 200.
const FIRST_SEEDS: u64 = 1_500;
/// The faults at different await points that they come by: a few fewer than they do.
const MIN_COVERAGE: usize = 140;

/// What a story ended with.
struct Told {
    violation: Option<String>,
    coverage: BTreeSet<Point>,
    trace: Vec<String>,
}

thread_local! {
    /// Whether anything has panicked: the engine catches what it can, and goes on.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

fn tell(seed: u64, traced: bool) -> Told {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            usual(panic);
        }));
    });
    let mut simulation = Simulation::new(seed, traced);
    let world = simulation.world.clone();
    catch_unwind(AssertUnwindSafe(|| simulation.run())).ok();
    if PANICKED.take() {
        world.violate("something panicked");
    }
    let mut state = world.state();
    Told {
        violation: state.violation.take(),
        coverage: std::mem::take(&mut state.coverage),
        trace: state.trace.take().unwrap_or_default(),
    }
}

/// Tells the story again, to people, and fails.
fn fail(seed: u64) -> ! {
    let told = tell(seed, true);
    println!("{}", told.trace.join("\n"));
    panic!(
        "seed {seed}: {}\nagain: SIMULATION_SEED={seed} cargo test -p webhook-core --all-features \
         --test simulation many_stories -- --nocapture",
        told.violation
            .as_deref()
            .unwrap_or("this time all went well")
    );
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Tells these seeds' stories on as many threads as CI has cores, up to the first that breaks a promise.
fn tell_all(seeds: Range<u64>) -> BTreeSet<Point> {
    let (next, broken) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX));
    let coverage = Mutex::new(BTreeSet::new());
    let tell_some = || {
        while broken.load(Ordering::SeqCst) == u64::MAX {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                break;
            }
            let told = tell(seed, false);
            coverage.lock().unwrap().extend(told.coverage);
            if told.violation.is_some() {
                broken.fetch_min(seed, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(tell_some);
        }
    });
    match broken.into_inner() {
        u64::MAX => coverage.into_inner().unwrap(),
        seed => fail(seed),
    }
}

/// What planted bugs are tried on: those that can be found at all are found soon.
#[test]
fn the_first_stories_keep_the_promises() {
    if number_from("SIMULATION_SEED").is_none() {
        tell_all(0..FIRST_SEEDS);
    }
}

#[test]
fn many_stories_keep_the_promises() {
    if let Some(seed) = number_from("SIMULATION_SEED") {
        let told = tell(seed, true);
        println!("{}", told.trace.join("\n"));
        assert_eq!(told.violation, None);
        return;
    }
    let seeds = number_from("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let coverage = tell_all(FIRST_SEEDS..seeds);
    if seeds >= SEEDS {
        judge_coverage(&coverage);
    }
}

/// A simulation that no longer gets anywhere finds nothing.
fn judge_coverage(hit: &BTreeSet<Point>) {
    // For the summary of `cargo xtask test`: what a test prints that passes is not shown.
    let report = format!("{} faults at different await points\n", hit.len());
    std::fs::write(
        concat!(env!("CARGO_TARGET_TMPDIR"), "/simulation.txt"),
        report,
    )
    .unwrap();
    let mut blind = Vec::new();
    for call in scenario::CALLS {
        for side in [Side::Before, Side::After] {
            for fault in [Fault::Delay, Fault::Failure, Fault::Crash] {
                let point = (call, side, fault);
                let exists = call != "clock.sleep" || fault != Fault::Failure;
                blind.extend((exists && !hit.contains(&point)).then_some(point));
            }
        }
    }
    assert_eq!(blind, [], "faults that were never tried");
    assert!(hit.len() >= MIN_COVERAGE, "{} < {MIN_COVERAGE}", hit.len());
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in 0..16 {
        let (first, second) = (tell(seed, true), tell(seed, true));
        let difference = first.trace.iter().zip(&second.trace).find(|(a, b)| a != b);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
}
