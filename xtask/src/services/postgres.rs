//! A Postgres of our own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::install::Programs;
use super::port;
use super::server::Server;
use super::user::User;
use crate::Result;
use crate::process::{run_within, works};

/// What a server keeps of what it committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// All of it, whatever happens.
    Full,
    /// All of it as long as the machine runs, also if the server is killed: tests make thousands of tables, and most of
    /// their time would go into waiting for the disk.
    WhileTheMachineRuns,
}

impl Durability {
    fn settings(self) -> [&'static str; 3] {
        match self {
            Self::Full => ["fsync=on", "synchronous_commit=on", "full_page_writes=on"],
            // A commit waits until the log is with the system: a killed server has lost nothing.
            Self::WhileTheMachineRuns => {
                ["fsync=off", "synchronous_commit=on", "full_page_writes=off"]
            }
        }
    }
}

/// A Postgres that loses nothing it committed, on the loopback interface.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: u16,
    programs: PathBuf,
}

impl Postgres {
    /// The user to whom Debian's package gives servers.
    const USER: &str = "postgres";

    /// Makes a new one.
    ///
    /// # Errors
    /// When its programs are missing and cannot be installed, or it does not start.
    pub fn start() -> Result<Self> {
        Self::with(&super::install::programs()?, Durability::Full)
    }

    pub(super) fn with(programs: &Programs, durability: Durability) -> Result<Self> {
        let user = User::is_root().then(|| User::named(Self::USER));
        let user = user.transpose()?;
        let programs = programs.postgres.clone();
        let mut server = Server::new("postgres", &programs.join("postgres"), user)?;
        let port = port::free()?;
        let data = server.folder().join("data");
        init(&programs.join("initdb"), &data, user)?;
        let folder = server.folder().to_owned();
        let command = server.command().arg("-D").arg(data).arg("-k").arg(folder);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-N", "400"]);
        // Below its folder, so that nothing stays elsewhere when it is killed.
        command.args(["-c", "dynamic_shared_memory_type=mmap"]);
        for setting in durability.settings() {
            command.args(["-c", setting]);
        }
        let mut postgres = Self {
            server,
            port,
            programs,
        };
        postgres.restart()?;
        Ok(postgres)
    }

    /// As sqlx and libpq take it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/postgres", self.address())
    }

    fn address(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills all of it as a crash would. What it has stays.
    ///
    /// # Errors
    /// When it does not run, or cannot be killed.
    pub fn kill(&mut self) -> Result {
        self.server.kill()
    }

    /// Starts it once more after it was killed, with what it had, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result {
        let program = self.programs.join("pg_isready");
        let port = self.port.to_string();
        let ready = || works(Command::new(&program).args(["-h", "127.0.0.1", "-p", &port]));
        self.server.start(ready)
    }

    /// Runs SQL, and gives what it returns: a line each row, `|` between columns.
    ///
    /// # Errors
    /// When it cannot be run, or not successfully.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.sql_in("postgres", sql)
    }

    /// The same, in this database.
    ///
    /// # Errors
    /// When it cannot be run, or not successfully.
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d"]);
        psql.arg(format!("{}/{database}", self.address()));
        super::output(psql.args(["-c", sql]))
    }

    /// How often its log contains this.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn logged(&self, part: &str) -> Result<u64> {
        let log = self.server.log();
        let log = log.map_err(|error| format!("the log of Postgres: {error}"))?;
        Ok(log.matches(part).count() as u64)
    }
}

fn init(program: &Path, data: &Path, user: Option<User>) -> Result {
    let mut init = Command::new(program);
    init.arg("-D").arg(data).args(["-U", "postgres"]);
    init.args(["--locale=C", "--encoding=UTF8", "--auth=trust"]);
    // What the server writes is durable; that it was set up need not be.
    init.arg("--no-sync").current_dir("/");
    if let Some(user) = user {
        user.run(&mut init);
    }
    let finished = run_within(init, super::LIMIT).map_err(|error| format!("initdb: {error}"))?;
    match finished.status {
        Some(status) if status.success() => Ok(()),
        _ => Err(format!("initdb failed\n{}", finished.output.trim())),
    }
}
