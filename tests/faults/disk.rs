//! A small disk of its own, to be filled.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// Where what is written has an end.
pub(crate) enum Disk {
    /// A mounted file system. Only root can have one, and not everywhere.
    Mounted(PathBuf),
    /// A folder like any other. Instead of a full disk, its writers find a limit to the size of their files.
    Limited(PathBuf),
}

impl Disk {
    const SIZE: &str = "size=48m";

    /// What a file may have when the disk is full: more than the nodes' own journals, less than a store.
    const LIMIT: u64 = 1024 * 1024;

    /// A file system, or else a folder.
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        Self::mount(folder.clone()).or_else(|_| {
            fs::create_dir_all(&folder)?;
            Ok(Self::Limited(folder))
        })
    }

    /// A file system.
    pub(crate) fn mount(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", Self::SIZE, "tmpfs"]);
        let mounted = mount.arg(&folder).output()?;
        match mounted.status.success() {
            true => Ok(Self::Mounted(folder)),
            false => Err("a small disk cannot be mounted".into()),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Mounted(folder) | Self::Limited(folder) => folder,
        }
    }

    /// Fills it to the last byte, for those who write.
    pub(crate) fn fill(&self, writers: &[u32]) -> Result {
        match self {
            Self::Mounted(folder) => fill(&ballast(folder)),
            Self::Limited(_) => limit(writers, &Self::LIMIT.to_string()),
        }
    }

    /// Frees what [`Disk::fill`] took.
    pub(crate) fn free(&self, writers: &[u32]) -> Result {
        match self {
            Self::Mounted(folder) => Ok(fs::remove_file(ballast(folder))?),
            Self::Limited(_) => limit(writers, "unlimited"),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Mounted(folder) = self {
            let _ = Command::new("umount").arg(folder).status();
        }
    }
}

fn ballast(folder: &Path) -> PathBuf {
    folder.join("ballast")
}

fn fill(ballast: &Path) -> Result {
    let mut ballast = File::create(ballast)?;
    loop {
        match ballast.write(&[0; 4096]) {
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            written => drop(written?),
        }
    }
}

/// Sets what a file of these processes may have: the soft limit, so that it can be lifted again.
fn limit(processes: &[u32], bytes: &str) -> Result {
    for process in processes {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &process.to_string()]);
        let limited = prlimit.arg(format!("--fsize={bytes}:")).status()?;
        if !limited.success() {
            return Err(format!("the files of process {process} cannot be limited").into());
        }
    }
    Ok(())
}
