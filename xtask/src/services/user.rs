//! Who runs a server: Postgres refuses to be root.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::Result;

/// A user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    id: u32,
    group: u32,
}

impl User {
    /// Whether we are root.
    pub(super) fn is_root() -> bool {
        id(&["-u"]) == Ok(0)
    }

    pub(super) fn named(name: &str) -> Result<Self> {
        Ok(Self {
            id: id(&["-u", name])?,
            group: id(&["-g", name])?,
        })
    }

    #[cfg(unix)]
    pub(super) fn own(self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.id), Some(self.group))
    }

    #[cfg(unix)]
    pub(super) fn run(self, command: &mut Command) {
        use std::os::unix::process::CommandExt as _;
        command.uid(self.id).gid(self.group);
    }

    #[cfg(not(unix))]
    pub(super) fn own(self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(unix))]
    pub(super) fn run(self, _: &mut Command) {}
}

fn id(args: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(args).output();
    let output = output.map_err(|error| format!("id: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.trim().parse();
    number.map_err(|_| format!("there is no user {}", args.last().unwrap_or(&"")))
}
