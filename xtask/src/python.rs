//! Programs and libraries of PyPI, in virtual environments below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{line, succeed, works};

/// The note in an environment that says what is in it.
const CONTENTS: &str = "contents.txt";

/// The folder of the programs of `target/python/<name>`, an environment with exactly these packages, as
/// `package==version`. It is made anew when they change, and otherwise left as it is.
///
/// # Errors
/// When there is no Python with `venv`, which says what to install, or a package cannot be had.
pub(crate) fn venv(root: &Path, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = root.join("target/python").join(name);
    let programs = folder.join("bin");
    let wanted = contents(packages);
    if fs::read_to_string(folder.join(CONTENTS)).is_ok_and(|found| found == wanted) {
        return Ok(programs);
    }
    preflight()?;
    let failed = |error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    quietly(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut install = Command::new(programs.join("python"));
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    quietly(install.args(packages))?;
    // Last, so that one that was interrupted is made again.
    fs::write(folder.join(CONTENTS), wanted).map_err(failed)?;
    Ok(programs)
}

fn preflight() -> Result {
    if works(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        return Ok(());
    }
    Err("`python3 -m venv` does not work: install Python 3.10 or later (Debian, Ubuntu: `apt-get install \
         python3-venv`)"
        .to_owned())
}

fn contents(packages: &[&str]) -> String {
    packages.join("\n") + "\n"
}

fn quietly(command: &mut Command) -> Result {
    println!("{}", line(command));
    succeed(command.stdin(Stdio::null()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::Temp;

    #[test]
    fn an_environment_that_has_what_is_wanted_is_left_as_it_is() {
        let packages = ["first==1", "second==2"];
        let temp = Temp::with(&[("target/python/p/contents.txt", &contents(&packages))]);
        let programs = venv(temp.path(), "p", &packages).unwrap();
        assert_eq!(programs, temp.path().join("target/python/p/bin"));
        assert!(!programs.exists(), "nothing was made");
    }
}
