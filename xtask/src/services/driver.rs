//! chromedriver of our own: the tests of the dashboard ask it for browsers.

use std::env;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use super::server::Server;
use super::{Environment, install, port};
use crate::Result;
use crate::process::works;

/// The packages of Debian: browser and driver are of one version.
const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

/// What tells tests where it is.
const VARIABLE: &str = "WEBDRIVER_URL";

/// A driver on the loopback interface. Its browsers keep their profiles in its folder, and end with it.
pub(crate) struct Driver {
    /// None if whoever runs us has one already.
    own: Option<(Server, u16)>,
}

impl Driver {
    /// Starts one, installed if it is not, unless there is one.
    pub(crate) fn start() -> Result<Self> {
        if env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
            return Ok(Self { own: None });
        }
        install_missing()?;
        let port = port::free()?;
        let mut server = Server::new("driver", &PathBuf::from("chromedriver"), None)?;
        let folder = server.folder().to_owned();
        let command = server.command();
        command.arg(format!("--port={port}"));
        command.envs([("TMPDIR", &folder), ("HOME", &folder)]);
        // What pages show is then the same everywhere.
        command.envs([("TZ", "UTC"), ("LANG", "C.UTF-8"), ("LANGUAGE", "en-US")]);
        server.start(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self {
            own: Some((server, port)),
        })
    }

    /// The variables to set for those who need it.
    pub(crate) fn environment(&self) -> Environment {
        let own = self.own.iter();
        own.map(|(_, port)| (VARIABLE, format!("http://127.0.0.1:{port}")))
            .collect()
    }
}

fn install_missing() -> Result {
    let is_missing = |program: &str| !works(Command::new(program).arg("--version"));
    let programs = ["chromium", "chromedriver"];
    let missing: Vec<&str> = programs.into_iter().filter(|it| is_missing(it)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("{} not found", missing.join(" and "));
    install::packages(&PACKAGES)
}
