//! A folder for each test.

use std::path::PathBuf;

use tempfile::TempDir;

/// A folder of its own, removed with what is in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::with_prefix("webhook-sqlite-").expect("a folder can be made"))
    }

    /// Where a store's file goes.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("webhooks.db")
    }
}
