//! Other programs: cargo and git, with clean environments; time, and limits to it.

use std::env;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a program may take after it was killed to let go of its output.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Cargo, without what the cargo that runs us said of this package: build scripts that look at it
/// would run again, and all that depends on them be compiled twice.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command.current_dir(directory);
    command
}

/// Git, for this directory whoever owns it, and deaf to a hook that runs us.
pub(crate) fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command.arg("-c");
    command.arg(format!("safe.directory={}", directory.display()));
    command.current_dir(directory);
    command
}

/// What the system lets a program have of the processor when others want it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Usual,
    /// What they leave.
    Low,
}

/// Runs this program with a priority, and whatever it starts.
pub(crate) fn with_priority(program: &Path, priority: Priority) -> Command {
    if priority == Priority::Usual || cfg!(not(unix)) {
        return Command::new(program);
    }
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(program);
    command
}

/// Runs `command` with our own output.
///
/// # Errors
/// When it cannot be started or is not successful.
pub(crate) fn succeed(command: &mut Command) -> Result {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}`: {status}", line(command))),
        Err(error) => Err(format!("`{}`: {error}", line(command))),
    }
}

/// Whether `command` can be run at all, successfully; its output is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_stem().unwrap_or_default().to_os_string();
    for arg in command.get_args() {
        line.push(" ");
        line.push(arg);
    }
    line.to_string_lossy().into_owned()
}

/// What a program wrote, and its status: `None` if it was killed for taking too long.
pub(crate) struct Finished {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) output: String,
}

/// Runs `command` for at most `limit`, with what it writes to stdout and stderr in one text. It is
/// killed with all that it started.
pub(crate) fn run_within(mut command: Command, limit: Duration) -> io::Result<Finished> {
    let (mut reader, writer) = io::pipe()?;
    command.stdin(Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    lead_a_group(&mut command);
    let mut child = command.spawn()?;
    // It holds the writing ends: the pipe ends only when the program is the last to have one.
    drop(command);

    let (sender, written) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes);
        // Nobody listens to a program that outlives being killed.
        let _ = sender.send(read.map(|_| bytes));
    });
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if let Ok(bytes) = written.recv_timeout(limit) {
        let (status, output) = (Some(child.wait()?), text(bytes?));
        return Ok(Finished { status, output });
    }
    kill_group(&mut child)?;
    let bytes = written.recv_timeout(LAST_WORDS);
    let output = text(bytes.unwrap_or_else(|_| Ok(Vec::new()))?);
    Ok(Finished {
        status: None,
        output,
    })
}

/// The process is the first of a group of its own: signals to ours do not reach it, and it can be killed
/// with all that it starts.
#[cfg(unix)]
pub(crate) fn lead_a_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
pub(crate) fn lead_a_group(_command: &mut Command) {}

/// Kills a group by its first process.
pub(crate) fn kill_group(child: &mut Child) -> io::Result<()> {
    if send("KILL", &format!("-{}", child.id())).is_err() {
        child.kill()?;
    }
    child.wait().map(drop)
}

/// Sends a signal to a process, or a group if there is a `-` before its number. The shell's own `kill`
/// does it, as small systems have no other.
pub(crate) fn send(signal: &str, target: &str) -> io::Result<()> {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -s \"$0\" -- \"$1\"", signal, target]);
    if works(&mut kill) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "no process {target} for {signal}"
    )))
}

/// The one place that reads the time.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start, for a table: `12.3 s`.
    pub(crate) fn read(&self) -> String {
        format!("{:.1} s", self.0.elapsed().as_secs_f64())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_arrive_with_the_status() {
        let script = shell("echo out; echo err >&2; exit 3");
        let finished = run_within(script, Duration::from_secs(60)).unwrap();
        assert_eq!(finished.output, "out\nerr\n");
        assert_eq!(finished.status.unwrap().code(), Some(3));
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let script = shell("echo begun; tail -f /dev/null | cat");
        let finished = run_within(script, Duration::from_millis(300)).unwrap();
        assert!(finished.status.is_none());
        assert_eq!(finished.output, "begun\n");
    }

    #[test]
    fn a_command_is_named_as_one_types_it() {
        let mut command = Command::new("/usr/bin/cargo");
        assert_eq!(line(command.args(["test", "--lib"])), "cargo test --lib");
    }
}
