//! `cargo xtask mutants`: proves that tests find planted bugs.
//!
//! All happens in a copy of the tree. It stays in `target/mutants` from run to run, so that cargo
//! compiles only what differs; what it depends on comes from the workspace's own target folder. First
//! the tests that the mutants name must pass there; then each mutant's patch is applied, its tests must
//! fail, and the patch is taken back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::process::{Stopwatch, git};
use crate::services::{Driver, Durability, Environment, Services};
use crate::tree::Tree;

mod mutant;
mod trial;

use mutant::{Check, Mutant};
use trial::Trial;

/// Where the mutants are, below the workspace's folder.
const PATCHES: &str = "tests/mutants";

/// Into how many turns `cargo xtask test` divides the mutants: each takes seconds, and all of them would
/// take longer than everything else.
const TURNS: usize = 12;

/// What the simulation is for: planted with each turn, so that no commit lands while it overlooks one of them.
const EACH_TURN: [&str; 5] = [
    "batch-fails-whole",
    "fencing",
    "lost-wake-up",
    "push-before-commit",
    "settle-before-record",
];

/// The packages whose tests need servers.
const SERVED: [&str; 2] = ["webhook-postgres", "webhook-redis"];

/// The tests that need a browser, as `--test` names them.
const BROWSER: &str = "browser";

/// Plants the mutants of these names, or all, each on its own. Starts servers if their tests need them.
pub(crate) fn run_alone(root: &Path, names: &[&str]) -> Result {
    let mutants = mutant::load(&root.join(PATCHES), names)?;
    let needs = |is_needed: fn(&Check) -> bool| {
        let mut checks = mutants.iter().flat_map(|it| &it.caught_by);
        checks.any(is_needed)
    };
    let services = match needs(|it| SERVED.contains(&it.package.as_str())) {
        true => Services::start(Durability::WhileTheMachineRuns)?,
        false => Services::default(),
    };
    let driver = match needs(|it| it.words.iter().any(|word| word == BROWSER)) {
        true => Some(Driver::start()?),
        false => None,
    };
    let mut environment = services.environment();
    environment.extend(driver.iter().flat_map(Driver::environment));
    run(root, names, &environment)
}

/// Plants those of [`EACH_TURN`], and those whose turn it is by the commit, so that over the commits each has its turn,
/// and a commit always the same. That the others could still be planted is checked as well. With servers that run already.
pub(crate) fn run_turn(root: &Path, environment: &Environment) -> Result {
    let all = mutant::load(&root.join(PATCHES), &[])?;
    let turn = turn(&commit(root)?)?;
    let names = chosen(&all, turn);
    println!(
        "turn {} of {TURNS}: {} of {}",
        turn + 1,
        names.len(),
        all.len()
    );
    run(root, &names, environment)
}

/// What is planted at a turn, by name.
fn chosen(all: &[Mutant], turn: usize) -> Vec<&str> {
    let names = all.iter().map(|it| it.name.as_str()).enumerate();
    let is_chosen =
        |(number, name): &(usize, &str)| number % TURNS == turn || EACH_TURN.contains(name);
    names.filter(is_chosen).map(|(_, name)| name).collect()
}

/// The commit that is checked out.
fn commit(root: &Path) -> Result<String> {
    let mut parse = git(root);
    let output = parse.args(["rev-parse", "HEAD"]).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whose turn it is at a commit.
fn turn(commit: &str) -> Result<usize> {
    let digits = commit.get(..7).unwrap_or(commit);
    let number = usize::from_str_radix(digits, 16);
    let number = number.map_err(|_| format!("`{commit}` is not a commit"))?;
    Ok(number % TURNS)
}

/// Plants the mutants of these names, or all, with servers that run already.
fn run(root: &Path, names: &[&str], environment: &Environment) -> Result {
    let mutants = mutant::load(&root.join(PATCHES), names)?;
    let home = root.join("target/mutants");
    let copy = Copy::of(&Tree::of(root)?, &home, environment)?;
    all_apply(&copy, &mutant::load(&root.join(PATCHES), &[])?)?;
    passes_unpatched(&copy, &mutants)?;

    let width = mutants.iter().map(|it| it.name.len()).max().unwrap_or(0);
    let mut problems = Vec::new();
    for mutant in &mutants {
        let watch = Stopwatch::start();
        let verdict = try_mutant(&copy, mutant)?;
        let (state, by) = match &verdict {
            Ok(()) => ("caught", mutant.checks()),
            Err(problem) => (
                "NOT CAUGHT",
                problem.lines().next().unwrap_or("").to_owned(),
            ),
        };
        println!(
            "{:width$}  {state:<10}  {by}  ({})",
            mutant.name,
            watch.read()
        );
        if let Err(problem) = verdict {
            problems.push(format!("{}: {}\n{problem}", mutant.name, mutant.bug));
        }
    }
    println!(
        "{} caught, {} not caught",
        mutants.len() - problems.len(),
        problems.len()
    );
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "planted bugs were not caught\n\n{}",
        problems.join("\n\n")
    ))
}

/// Also those that are not planted now: a patch is stale as soon as the code has moved.
fn all_apply(copy: &Copy, mutants: &[Mutant]) -> Result {
    let stale = mutants.iter().filter_map(|mutant| {
        let error = copy.apply(&mutant.patch, &["--check"]).err()?;
        Some(format!("{}: the patch is stale: {error}", mutant.name))
    });
    let stale: Vec<String> = stale.collect();
    if stale.is_empty() {
        return Ok(());
    }
    Err(stale.join("\n"))
}

/// Each check must run tests that pass, or its failing would say nothing.
fn passes_unpatched(copy: &Copy, mutants: &[Mutant]) -> Result {
    let watch = Stopwatch::start();
    let checks: BTreeSet<(&Check, bool)> = mutants
        .iter()
        .flat_map(|it| it.caught_by.iter().map(|check| (check, it.may_hang)))
        .collect();
    for (check, may_hang) in &checks {
        match trial::run(copy, check, *may_hang)? {
            Trial::Passed { tests: 1.. } => {}
            other => return Err(format!("without any patch, {check}: {}", other.told())),
        }
    }
    println!(
        "without any patch, {} checks pass ({})",
        checks.len(),
        watch.read()
    );
    Ok(())
}

/// The inner error is what is wrong with the mutant, the outer one what keeps us from saying.
fn try_mutant(copy: &Copy, mutant: &Mutant) -> Result<std::result::Result<(), String>> {
    copy.apply(&mutant.patch, &[])?;
    let mut verdict = Ok(());
    for check in &mutant.caught_by {
        verdict = match trial::run(copy, check, mutant.may_hang)? {
            Trial::Failed => continue,
            Trial::Hung { .. } if mutant.may_hang => continue,
            other => Err(format!("{check}: {}", other.told())),
        };
        break;
    }
    copy.apply(&mutant.patch, &["--reverse"])?;
    Ok(verdict)
}

/// A copy of the tree that bugs are planted in, and cargo's target folder for it. One run at a time.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    environment: Environment,
    _lock: File,
}

impl Copy {
    fn of(tree: &Tree, home: &Path, environment: &Environment) -> Result<Self> {
        let failed = |error| format!("{}: {error}", home.display());
        fs::create_dir_all(home).map_err(failed)?;
        let lock = File::create(home.join("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let copy = Self {
            tree: home.join("tree"),
            target: home.to_owned(),
            environment: environment.clone(),
            _lock: lock,
        };
        tree.copy_to(&copy.tree).map_err(failed)?;
        Ok(copy)
    }

    /// Applies a patch, wholly or not at all. The files that it writes have new modification times, so
    /// cargo sees the change both ways.
    fn apply(&self, patch: &Path, options: &[&str]) -> Result {
        let mut apply = git(&self.tree);
        // In a repository, git would skip what is not below the current folder, which all of it is not.
        apply.env("GIT_CEILING_DIRECTORIES", &self.target);
        apply.args(["apply", "--whitespace=nowarn"]);
        let output = apply.args(options).arg(patch).output();
        let output = output.map_err(|error| format!("git: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

#[cfg(test)]
mod tests;
