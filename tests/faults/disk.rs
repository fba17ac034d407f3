//! A small disk of its own, to be filled.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// A mounted file system of 32 MiB. Only root can have one.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn mount(folder: PathBuf) -> Result<Self> {
        fs::create_dir(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]);
        match mount.arg(&folder).status()?.success() {
            true => Ok(Self(folder)),
            false => Err("a small disk cannot be mounted: this fault needs root".into()),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) -> Result {
        let mut ballast = File::create(self.ballast())?;
        loop {
            match ballast.write(&[0; 4096]) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                written => drop(written?),
            }
        }
    }

    /// Frees what [`Disk::fill`] took.
    pub(crate) fn free(&self) -> Result {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
