//! A server of ours, in a folder of its own. Neither outlives us, however we end.

use std::fs::{self, File};
use std::io::{self, PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::user::User;
use crate::Result;
use crate::process::{kill_group, lead_a_group, send};

/// Between two looks at whether something has happened.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at a server that starts: two minutes.
const TO_START: u32 = 6_000;

/// Looks at a server that was asked to stop: five seconds.
const TO_STOP: u32 = 250;

/// The lines of its log that are shown of a server that does not start.
const SHOWN: usize = 20;

/// A server that is stopped, and its folder removed, when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    folder: PathBuf,
    log: PathBuf,
    command: Command,
    child: Option<Child>,
    watchdog: Watchdog,
}

impl Server {
    /// Makes the folder. [`Server::command`] says what is run, and [`Server::start`] runs it.
    pub(super) fn new(name: &'static str, program: &Path, user: Option<User>) -> Result<Self> {
        let failed = |error: io::Error| format!("{name}: {error}");
        let folder = new_folder(name).map_err(failed)?;
        let watchdog = Watchdog::start(&folder).map_err(failed)?;
        let log = folder.join("log");
        let output = File::options().create(true).append(true).open(&log);
        let output = output.map_err(failed)?;
        let mut command = Command::new(program);
        command.current_dir(&folder).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(failed)?);
        command.stderr(output);
        lead_a_group(&mut command);
        if let Some(user) = user {
            user.own(&folder).map_err(failed)?;
            user.run(&mut command);
        }
        Ok(Self {
            name,
            folder,
            log,
            command,
            child: None,
            watchdog,
        })
    }

    /// Where it keeps what it has.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has said so far.
    pub(super) fn log(&self) -> io::Result<String> {
        fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned())
    }

    pub(super) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it, also once more after it was killed, and waits until it is `ready`.
    pub(super) fn start(&mut self, ready: impl Fn() -> bool) -> Result {
        let failed = |error: io::Error| format!("{}: {error}", self.name);
        let child = self.command.spawn().map_err(failed)?;
        self.watchdog.watch(child.id()).map_err(failed)?;
        let child = self.child.insert(child);
        for _ in 0..TO_START {
            if ready() {
                return Ok(());
            }
            if let Some(status) = child.try_wait().map_err(failed)? {
                self.child = None;
                return Err(format!("{} ended: {status}\n{}", self.name, self.told()));
            }
            thread::sleep(PAUSE);
        }
        Err(format!("{} does not answer\n{}", self.name, self.told()))
    }

    /// The end of its log.
    fn told(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// Kills it as a crash would. Its folder stays.
    pub(super) fn kill(&mut self) -> Result {
        let mut child = self.running()?;
        kill_group(&mut child).map_err(|error| format!("{}: {error}", self.name))
    }

    fn running(&mut self) -> Result<Child> {
        let child = self.child.take();
        child.ok_or_else(|| format!("{} does not run", self.name))
    }

    /// Lets it end by itself, for a while.
    fn stop(&mut self) -> Result {
        let mut child = self.running()?;
        if send("INT", &child.id().to_string()).is_ok() {
            for _ in 0..TO_STOP {
                if child.try_wait().is_ok_and(|status| status.is_some()) {
                    return Ok(());
                }
                thread::sleep(PAUSE);
            }
        }
        kill_group(&mut child).map_err(|error| format!("{}: {error}", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
        self.watchdog.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Looks until `reached`, for at most two minutes.
pub(super) fn wait_until(what: &str, reached: impl Fn() -> bool) -> Result {
    for _ in 0..TO_START {
        if reached() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(format!("waited two minutes in vain: {what}"))
}

fn new_folder(name: &str) -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("webhook-{name}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        match fs::create_dir(&folder) {
            // Left by a process of our number, long ago.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
}

/// A shell that holds the reading end of a pipe. Whatever ends us closes the other end, and then it
/// kills the last process it was told of, with its group, and removes the folder.
#[derive(Debug)]
struct Watchdog {
    shell: Child,
    pipe: PipeWriter,
}

impl Watchdog {
    // Postgres's own children end by themselves, and may write until then.
    const SCRIPT: &str = "while read -r pid; do last=$pid; done
        [ -z \"$last\" ] || kill -s KILL -- \"-$last\"
        for try in 1 2 3 4 5 6 7 8 9; do sleep 1; rm -rf -- \"$0\" && break; done";

    fn start(folder: &Path) -> io::Result<Self> {
        let (reader, pipe) = io::pipe()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", Self::SCRIPT]).arg(folder).stdin(reader);
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        lead_a_group(&mut shell);
        let shell = shell.spawn()?;
        Ok(Self { shell, pipe })
    }

    fn watch(&mut self, pid: u32) -> io::Result<()> {
        writeln!(self.pipe, "{pid}")
    }

    fn end(&mut self) {
        let _ = kill_group(&mut self.shell);
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::temp::Temp;

    const OWNER: &str = "XTASK_TEST_OWNS_A_SERVER_THAT_WRITES_TO";

    /// Starts a server without end that keeps `fifo` open while it lives.
    fn start(fifo: &str) -> Server {
        let mut server = Server::new("test", Path::new("sh"), None).unwrap();
        let script = "exec 3>\"$0\"; echo > open; exec tail -f /dev/null";
        server.command().args(["-c", script, fifo]);
        let open = server.folder().join("open");
        server.start(|| open.exists()).unwrap();
        server
    }

    /// A named pipe in a folder.
    fn fifo(temp: &Temp) -> String {
        let fifo = temp.path().join("fifo").to_str().unwrap().to_owned();
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        fifo
    }

    #[test]
    fn a_server_ends_with_its_owner_even_if_that_crashes() {
        if let Ok(fifo) = std::env::var(OWNER) {
            let _server = start(&fifo);
            std::process::abort();
        }
        let temp = Temp::with(&[]);
        let fifo = fifo(&temp);
        let name = "services::server::tests::a_server_ends_with_its_owner_even_if_that_crashes";
        let mut owner = Command::new(std::env::current_exe().unwrap());
        owner.args(["--exact", name]).env(OWNER, &fifo);
        owner.stdout(Stdio::null()).stderr(Stdio::null());
        let mut owner = owner.spawn().unwrap();
        let mut server = File::open(&fifo).unwrap();
        assert!(!owner.wait().unwrap().success());
        // Ends when nobody has the pipe open any more.
        server.read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn a_dropped_server_leaves_nothing() {
        let temp = Temp::with(&[]);
        let fifo = fifo(&temp);
        let reader = thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo)
        });
        let server = start(&fifo);
        let folder = server.folder().to_owned();
        assert!(folder.exists());
        drop(server);
        reader.join().unwrap().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_log() {
        let mut server = Server::new("test", Path::new("sh"), None).unwrap();
        server.command().args(["-c", "echo no room >&2; exit 3"]);
        let error = server.start(|| false).unwrap_err();
        assert!(error.contains("exit status: 3\nno room"), "{error}");
    }
}
