//! Folders for tests, removed when dropped.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::tree::Tree;

pub(crate) struct Temp {
    path: PathBuf,
    _folder: TempDir,
}

impl Temp {
    /// A new folder with these files: name and text.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("xtask-").unwrap();
        let temp = Self {
            path: folder.path().canonicalize().unwrap(),
            _folder: folder,
        };
        for (name, text) in files {
            let file = temp.path.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        temp
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All that is in it.
    pub(crate) fn tree(&self) -> Tree {
        let mut files = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.path).unwrap().to_str().unwrap();
                    files.push(name.replace('\\', "/"));
                }
            }
        }
        Tree::new(&self.path, files)
    }
}
