//! The files that are the project: what git tracks and what it would.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::process::git;

/// The project's files below `root`, as git knows them: with changes that are not committed and
/// without what is ignored.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// Relative to the root, with `/`, sorted.
    pub(crate) files: Vec<String>,
}

impl Tree {
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let mut list = git(root);
        list.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let output = list.output().map_err(|error| format!("git: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("git ls-files: {}", said.trim()));
        }
        let listed = String::from_utf8_lossy(&output.stdout);
        let names = listed.split('\0').filter(|name| !name.is_empty());
        Ok(Self::new(root, names.map(str::to_owned)))
    }

    /// Those of `files` that are there: git also lists what was deleted and not committed.
    pub(crate) fn new(root: &Path, files: impl IntoIterator<Item = String>) -> Self {
        let there = |file: &String| root.join(file).is_file();
        let mut files: Vec<String> = files.into_iter().filter(there).collect();
        files.sort();
        files.dedup();
        Self {
            root: root.to_owned(),
            files,
        }
    }

    /// The files whose names end with one of `extensions`.
    pub(crate) fn with_extension(&self, extensions: &[&str]) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str).filter(move |file| {
            let extension = Path::new(file).extension();
            extension.is_some_and(|it| extensions.iter().any(|one| it == *one))
        })
    }

    /// A file's text, as far as it is text.
    pub(crate) fn text(&self, file: &str) -> String {
        let bytes = fs::read(self.root.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Makes the folder `to` hold these files and no others. What is the same already is not written,
    /// so that cargo compiles only what differs; what is written has a new modification time.
    pub(crate) fn copy_to(&self, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        self.remove_others(to, to)?;
        for file in &self.files {
            let (source, copy) = (self.root.join(file), to.join(file));
            if fs::read(&copy).ok() == Some(fs::read(&source)?) {
                continue;
            }
            if let Some(folder) = copy.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(source, copy)?;
        }
        Ok(())
    }

    fn remove_others(&self, folder: &Path, copy: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.remove_others(&path, copy)?;
                // Only an empty one goes.
                let _ = fs::remove_dir(&path);
                continue;
            }
            let name = path.strip_prefix(copy).unwrap_or(&path);
            let name = name.to_string_lossy().replace('\\', "/");
            if self.files.binary_search(&name).is_err() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::Temp;

    fn modified(file: &Path) -> std::time::SystemTime {
        fs::metadata(file).unwrap().modified().unwrap()
    }

    #[test]
    fn a_copy_follows_the_tree_and_leaves_alone_what_is_the_same() {
        let temp = Temp::with(&[("a/same", "1"), ("a/changed", "1"), ("gone/b", "1")]);
        let copy = Temp::with(&[]);
        temp.tree().copy_to(copy.path()).unwrap();
        let before = modified(&copy.path().join("a/same"));

        fs::remove_dir_all(temp.path().join("gone")).unwrap();
        fs::write(temp.path().join("a/changed"), "2").unwrap();
        fs::write(temp.path().join("new"), "3").unwrap();
        temp.tree().copy_to(copy.path()).unwrap();

        assert_eq!(copy.tree().files, ["a/changed", "a/same", "new"]);
        assert_eq!(copy.tree().text("a/changed"), "2");
        assert!(!copy.path().join("gone").exists());
        assert_eq!(modified(&copy.path().join("a/same")), before);
    }

    #[test]
    fn git_lists_what_is_new_but_not_what_is_ignored_or_deleted() {
        let temp = Temp::with(&[("new", ""), (".gitignore", "target"), ("target/x", "")]);
        let path = temp.path();
        fs::write(path.join("deleted"), "").unwrap();
        assert!(git(path).args(["init", "-q"]).status().unwrap().success());
        assert!(
            git(path)
                .args(["add", "deleted"])
                .status()
                .unwrap()
                .success()
        );
        fs::remove_file(path.join("deleted")).unwrap();
        assert_eq!(Tree::of(path).unwrap().files, [".gitignore", "new"]);
    }
}
