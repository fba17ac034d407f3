//! Steps that run beside others: each in a process of its own, so that what it prints can be kept until it has ended.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::summary::Summary;
use crate::Result;
use crate::process::{Priority, Stopwatch, with_priority};

/// Where each leaves what it prints, while it runs and after.
const OUTPUT: &str = "target/tmp/steps";

/// A step that needs no more than the workspace's folder: none of the servers that the tests have.
pub(super) struct Apart {
    pub(super) name: &'static str,
    pub(super) run: fn(&Path) -> Result,
}

/// Two lists of steps, each one after the other, at the same time.
pub(super) struct SideBySide {
    /// What must not be late when it does not wait.
    pub(super) waiting: &'static [Apart],
    /// What leaves the processor to the others when they want it.
    pub(super) giving_way: &'static [Apart],
}

/// Runs a step, and gives what it printed.
pub(super) type Start<'a> = dyn Fn(&Apart, Priority) -> (String, Result) + Sync + 'a;

/// Runs both lists up to the first failure in either: what runs then on the other side ends, and is the last there.
pub(super) fn side_by_side(steps: &SideBySide, summary: &mut Summary, start: &Start<'_>) {
    let failed = AtomicBool::new(summary.has_failed());
    let (waiting, giving_way) = thread::scope(|scope| {
        let other = scope.spawn(|| one_side(steps.giving_way, Priority::Low, &failed, start));
        let waiting = one_side(steps.waiting, Priority::Usual, &failed, start);
        let giving_way = other.join();
        (
            waiting,
            giving_way.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    summary.append(&waiting);
    summary.append(&giving_way);
}

fn one_side(
    steps: &[Apart],
    priority: Priority,
    failed: &AtomicBool,
    start: &Start<'_>,
) -> Summary {
    let mut summary = Summary::default();
    for step in steps {
        if failed.load(Ordering::SeqCst) {
            summary.not_run(step.name);
            continue;
        }
        println!(
            "\n==> {}: begins; it is told of when it has ended",
            step.name
        );
        let watch = Stopwatch::start();
        let (output, result) = start(step, priority);
        failed.fetch_or(result.is_err(), Ordering::SeqCst);
        let ended = summary.ended(step.name, &watch.read(), result);
        // At once, so that the other side's does not come between.
        println!("\n==> {}\n{}\n{ended}", step.name, output.trim_end());
    }
    summary
}

/// Starts processes of this program.
pub(super) struct Processes {
    program: PathBuf,
    output: PathBuf,
}

impl Processes {
    /// To be called first: the system does not know the program's path any more once cargo has built it anew.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let program = std::env::current_exe();
        Ok(Self {
            program: program.map_err(|error| format!("this program: {error}"))?,
            output: root.join(OUTPUT),
        })
    }

    /// Runs a step, and gives what it printed.
    pub(super) fn run(&self, step: &Apart, priority: Priority) -> (String, Result) {
        let file = self
            .output
            .join(format!("{}.txt", step.name.replace(' ', "-")));
        let result = self.run_into(&file, step, priority);
        let output = fs::read(&file).unwrap_or_default();
        let output = String::from_utf8_lossy(&output).into_owned();
        (output, result)
    }

    /// A file and not a pipe, which whatever the step leaves running could keep open.
    fn run_into(&self, file: &Path, step: &Apart, priority: Priority) -> Result {
        let failed = |error: io::Error| format!("{}: {error}", file.display());
        fs::create_dir_all(&self.output).map_err(failed)?;
        let output = File::create(file).map_err(failed)?;
        let mut command = with_priority(&self.program, priority);
        command.args(["step", step.name]);
        command.stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(failed)?);
        let status = command.stderr(output).status();
        match status.map_err(|error| format!("{}: {error}", self.program.display()))? {
            status if status.success() => Ok(()),
            status => Err(format!("{status}; what it printed is above")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::temp::Temp;

    const fn step(name: &'static str) -> Apart {
        Apart {
            name,
            run: |_| Ok(()),
        }
    }

    const STEPS: SideBySide = SideBySide {
        waiting: &[step("long"), step("later")],
        giving_way: &[step("short"), step("next")],
    };

    /// What each came to, of the steps' own side first.
    fn states(summary: &Summary) -> Vec<String> {
        let told = summary.told(&[]);
        let rows = told.lines().take_while(|line| !line.is_empty());
        let words = rows.map(|row| row.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        words.collect()
    }

    #[test]
    fn both_sides_run_at_the_same_time_and_those_that_wait_come_first_in_the_table() {
        let mut summary = Summary::default();
        let both = Barrier::new(2);
        side_by_side(&STEPS, &mut summary, &|step, priority| {
            both.wait();
            let gives_way = priority == Priority::Low;
            assert_eq!(gives_way, ["short", "next"].contains(&step.name));
            (String::new(), Ok(()))
        });
        let expected = ["long passed", "later passed", "short passed", "next passed"];
        assert_eq!(states(&summary), expected);
        assert!(!summary.has_failed());
    }

    #[test]
    fn a_failure_is_the_last_step_of_its_side_and_the_other_side_hears_of_it() {
        let failed = AtomicBool::new(false);
        let fails = |_: &Apart, _| (String::new(), Err("planted".to_owned()));
        let side = one_side(STEPS.giving_way, Priority::Low, &failed, &fails);
        assert_eq!(states(&side), ["short FAILED", "next not"]);
        assert!(failed.into_inner());
    }

    #[test]
    fn what_runs_when_the_other_side_fails_ends_and_is_the_last_step() {
        let failed = AtomicBool::new(false);
        let meanwhile = |_: &Apart, _| {
            failed.store(true, Ordering::SeqCst);
            (String::new(), Ok(()))
        };
        let side = one_side(STEPS.waiting, Priority::Usual, &failed, &meanwhile);
        assert_eq!(states(&side), ["long passed", "later not"]);
    }

    #[test]
    fn nothing_runs_after_an_earlier_failure() {
        let mut summary = Summary::default();
        summary.ended("before", "0 s", Err("planted".to_owned()));
        side_by_side(&STEPS, &mut summary, &|step, _| panic!("{} ran", step.name));
        let expected = [
            "before FAILED",
            "long not",
            "later not",
            "short not",
            "next not",
        ];
        assert_eq!(states(&summary), expected);
    }

    #[test]
    fn a_step_has_its_name_and_what_it_prints_is_kept() {
        let temp = Temp::with(&[]);
        let run = |program: &str| {
            let processes = Processes {
                program: program.into(),
                output: temp.path().join("output"),
            };
            processes.run(&step("a name"), Priority::Low)
        };
        assert_eq!(run("echo"), ("step a name\n".to_owned(), Ok(())));
        // There is no such file.
        let (output, result) = run("cat");
        assert!(output.contains("a name"), "{output}");
        assert!(result.unwrap_err().contains("exit status: 1"));
    }
}
