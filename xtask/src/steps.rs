//! `cargo xtask test`: everything that CI runs, in order, up to the first failure.
//!
//! The steps share the target folder, and the tests one set of features, so that little is compiled
//! twice. None changes `RUSTFLAGS`, which would compile everything again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::packages::{Package, packages};
use crate::process::{Stopwatch, cargo, git, line, succeed, works};
use crate::services::{Driver, Durability, Environment, Services};
use crate::{Result, cost, deploy, lint, mutants, openapi, promtool, receivers};

mod apart;
mod summary;

use apart::{Apart, SideBySide};
use summary::Summary;

struct Step {
    name: &'static str,
    run: fn(&mut Run) -> Result,
}

/// What the steps share.
#[derive(Default)]
struct Run {
    root: PathBuf,
    /// None before their step.
    services: Services,
    /// Where the libraries of `examples/receivers/` are; none before their step.
    receivers: receivers::Libraries,
    /// What starts the browsers of the dashboard's tests; none before its step.
    driver: Option<Driver>,
    /// What is told below the summary.
    notes: Vec<String>,
}

impl Run {
    /// Where tests find what runs.
    fn environment(&self) -> Environment {
        let mut environment = self.services.environment();
        environment.extend(self.driver.iter().flat_map(Driver::environment));
        environment
    }
}

/// One after the other, with what they share. They build all that is run afterwards.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        run: |it| format(&it.root),
    },
    Step {
        name: "clippy",
        run: |it| clippy(&it.root),
    },
    Step {
        name: "features",
        run: |it| features(&it.root),
    },
    Step {
        name: "fuzz",
        run: |it| fuzz(&it.root),
    },
    Step {
        name: "services",
        run: services,
    },
    Step {
        name: "receivers",
        run: receivers,
    },
    Step {
        name: "browser",
        run: browser,
    },
    Step {
        name: "tests",
        run: unit_and_integration_tests,
    },
    Step {
        name: "cost",
        run: |it| cost::run(&it.root),
    },
    Step {
        name: "doc tests",
        run: |it| doc_tests(&it.root),
    },
    Step {
        name: "docs",
        run: |it| docs(&it.root),
    },
    Step {
        name: "quickstart",
        run: |it| quickstart(&it.root),
    },
    Step {
        name: "mutants",
        run: |it| mutants::run_turn(&it.root, &it.environment()),
    },
];

/// Then these, which mostly wait. Nothing that computes is among them: nodes of the faults whose claims last a second,
/// or that wait for the lock of SQLite's file, would be late. Only one side runs cargo, so that neither waits for its lock.
const SIDE_BY_SIDE: SideBySide = SideBySide {
    waiting: &[Apart {
        name: "faults",
        run: faults,
    }],
    giving_way: &[
        Apart {
            name: "openapi",
            run: openapi::run,
        },
        Apart {
            name: "promtool",
            run: promtool::run,
        },
        Apart {
            name: "deploy",
            run: deploy::run,
        },
        Apart {
            name: "lint",
            run: lint::run,
        },
    ],
};

/// What the simulation says of how far it got.
const SIMULATION: &str = "target/tmp/simulation.txt";

/// Target kinds with tests. Examples have none of their own: tests run them, as they are built.
const TESTED: [&str; 3] = ["--lib", "--bins", "--tests"];

/// Tells of a failed step itself, so that the count is the last line of the log.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    preflight(root)?;
    let mut run = Run {
        root: root.to_owned(),
        ..Run::default()
    };
    let runner = apart::Processes::of(root)?;
    let mut summary = Summary::default();
    in_order(&mut run, STEPS, &mut summary);
    let start = |step: &Apart, priority| runner.run(step, priority);
    apart::side_by_side(&SIDE_BY_SIDE, &mut summary, &start);
    println!("\n{}", summary.told(&run.notes));
    Ok(summary.code())
}

/// Runs one of those that run beside others: in a process of its own, which this is.
pub(crate) fn run_apart(root: &Path, name: &str) -> Result {
    let SideBySide {
        waiting,
        giving_way,
    } = SIDE_BY_SIDE;
    let mut steps = waiting.iter().chain(giving_way);
    let step = steps.find(|step| step.name == name);
    let step = step.ok_or_else(|| format!("`{name}` is not a step that runs beside others"))?;
    (step.run)(root)
}

/// Says what to install before any time is spent.
fn preflight(root: &Path) -> Result {
    let needs: [(Command, &[&str], &str); 3] = [
        (
            cargo(root),
            &["fmt", "--version"],
            "`rustup component add rustfmt`",
        ),
        (
            cargo(root),
            &["clippy", "--version"],
            "`rustup component add clippy`",
        ),
        (git(root), &["version"], "install git"),
    ];
    let missing = needs.into_iter().filter_map(|(mut command, args, remedy)| {
        let works = works(command.args(args));
        (!works).then(|| format!("`{}` does not work: {remedy}", line(&command)))
    });
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(missing.join("\n"))
}

/// Runs the steps up to the first that fails.
fn in_order(run: &mut Run, steps: &[Step], summary: &mut Summary) {
    for step in steps {
        if summary.has_failed() {
            summary.not_run(step.name);
            continue;
        }
        println!("\n==> {}", step.name);
        let watch = Stopwatch::start();
        let result = (step.run)(run);
        println!("{}", summary.ended(step.name, &watch.read(), result));
    }
}

fn format(root: &Path) -> Result {
    show(cargo(root).args(["fmt", "--all", "--check"]))
}

fn clippy(root: &Path) -> Result {
    let mut clippy = cargo(root);
    clippy.args(["clippy", "--workspace", "--all-targets", "--all-features"]);
    show(clippy.args(["--locked", "--", "-D", "warnings"]))
}

/// Each package with none of its features, and with each alone: in the whole workspace one package's
/// features hide that another forgot to ask for them.
fn features(root: &Path) -> Result {
    for package in packages(root)? {
        for choice in choices(&package) {
            let watch = Stopwatch::start();
            let mut clippy = cargo(root);
            clippy.args(["clippy", "--quiet", "--locked", "--package", &package.name]);
            clippy.args(choice).args(["--", "-D", "warnings"]);
            succeed(&mut clippy)?;
            println!("{} ({})", line(&clippy), watch.read());
        }
    }
    numbers_as_text(root)
}

/// A host's other crates may turn this feature on for all of its build: filters mean the same then.
fn numbers_as_text(root: &Path) -> Result {
    let mut filters = cargo(root);
    filters.args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "webhook-core",
        "--lib",
    ]);
    show(filters.args(["--features", "serde_json/arbitrary_precision", "filter"]))
}

/// The fuzz targets, which are a workspace of their own: they compile, with the versions that this one has.
fn fuzz(root: &Path) -> Result {
    let folder = root.join("fuzz");
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))
        .map_err(|error| format!("fuzz/Cargo.lock: {error}"))?;
    let manifest = ["--manifest-path", "fuzz/Cargo.toml"];
    show(cargo(root).arg("fmt").args(manifest).arg("--check"))?;
    let mut clippy = cargo(root);
    clippy.arg("clippy").args(manifest);
    clippy.args(["--target-dir", "target", "--", "-D", "warnings"]);
    // Nothing is linked, so that libFuzzer itself, in C++, need not be built.
    show(clippy.env("CUSTOM_LIBFUZZER_PATH", "none/libnone.a"))
}

fn choices(package: &Package) -> Vec<Vec<&str>> {
    let mut choices = vec![vec!["--no-default-features"]];
    for feature in &package.features {
        choices.push(vec!["--no-default-features", "--features", feature]);
    }
    choices
}

/// They run until the last step has ended. What needs a Postgres that survives the machine starts its own.
fn services(run: &mut Run) -> Result {
    run.services = Services::start(Durability::WhileTheMachineRuns)?;
    for (name, url) in run.services.environment() {
        println!("{name}={url}");
    }
    Ok(())
}

/// The libraries of the receivers that tests start.
fn receivers(run: &mut Run) -> Result {
    run.receivers = receivers::install(&run.root)?;
    Ok(())
}

/// It runs until the last step has ended. What it starts is the tests' own.
fn browser(run: &mut Run) -> Result {
    run.driver = Some(Driver::start()?);
    Ok(())
}

fn unit_and_integration_tests(run: &mut Run) -> Result {
    let root = &run.root;
    show(everything(cargo(root).args(["build", "--examples"])))?;
    let mut test = cargo(root);
    if works(cargo(root).args(["nextest", "--version"])) {
        test.args(["nextest", "run"]);
    } else {
        test.arg("test");
    }
    test.envs(run.environment());
    test.envs(&run.receivers);
    let report = root.join(SIMULATION);
    fs::remove_file(&report).ok();
    show(everything(&mut test).args(TESTED))?;
    let report = fs::read_to_string(report).map_err(|error| format!("{SIMULATION}: {error}"))?;
    run.notes.push(format!("simulation: {}", report.trim_end()));
    Ok(())
}

/// It starts servers of its own: these are to be killed. The tests' step has built it, beside this program.
fn faults(root: &Path) -> Result {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let program = program.with_file_name("examples").join("faults");
    show(Command::new(program).current_dir(root))
}

fn doc_tests(root: &Path) -> Result {
    show(everything(cargo(root).args(["test", "--doc"])))
}

fn docs(root: &Path) -> Result {
    let mut doc = cargo(root);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    show(everything(doc.args(["doc", "--no-deps"])))
}

fn quickstart(root: &Path) -> Result {
    show(cargo(root).args(["run", "--locked", "--example", "quickstart"]))
}

fn everything(command: &mut Command) -> &mut Command {
    command.args(["--workspace", "--all-features", "--locked"])
}

fn show(command: &mut Command) -> Result {
    println!("{}", line(command));
    succeed(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Step = Step {
        name: "good",
        run: |_| Ok(()),
    };
    const BAD: Step = Step {
        name: "bad",
        run: |_| Err("planted".into()),
    };
    const NEVER: Step = Step {
        name: "never",
        run: |_| panic!("a step after a failure ran"),
    };

    #[test]
    fn the_first_failure_is_the_last_step() {
        let mut summary = Summary::default();
        in_order(&mut Run::default(), &[GOOD, BAD, NEVER], &mut summary);
        let told = summary.told(&["a note".to_owned()]);
        let lines: Vec<&str> = told.lines().collect();
        let states = lines[..3].iter().map(|row| &row[..21]);
        let expected = [
            "good         passed  ",
            "bad          FAILED  ",
            "never        not run ",
        ];
        assert!(states.eq(expected), "{told}");
        assert_eq!(lines[3..], ["a note", "", "1 passed, 1 failed"]);
    }

    #[test]
    fn what_runs_beside_others_is_found_by_its_name() {
        let unknown = run_apart(Path::new("nowhere"), "never");
        assert!(unknown.unwrap_err().contains("`never`"));
        let faults = run_apart(Path::new("nowhere"), "faults");
        assert!(faults.unwrap_err().starts_with("`faults`: "));
    }

    #[test]
    fn each_feature_is_tried_alone_and_none() {
        let package = Package {
            name: "p".into(),
            features: vec!["default".into(), "tls".into()],
        };
        let choices: Vec<String> = choices(&package).iter().map(|it| it.join(" ")).collect();
        let none = "--no-default-features";
        let [default, tls] = ["default", "tls"].map(|it| format!("{none} --features {it}"));
        assert_eq!(choices, [none, &default, &tls]);
    }
}
