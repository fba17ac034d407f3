//! Packages of npm, below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{line, succeed, works};

/// The note beside the packages that says which these are.
const CONTENTS: &str = "contents.txt";

/// The folder `target/node/<name>`, with exactly these packages, as `package@version`, in its `node_modules`. It is
/// made anew when they change, and otherwise left as it is. Their scripts are not run.
///
/// # Errors
/// When there is no Node.js with npm, which says what to install, or a package cannot be had.
pub(crate) fn packages(root: &Path, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = root.join("target/node").join(name);
    let wanted = packages.join("\n") + "\n";
    if fs::read_to_string(folder.join(CONTENTS)).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    preflight()?;
    let failed = |error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::create_dir_all(&folder).map_err(failed)?;
    // Without a manifest here, npm would look for one further up.
    fs::write(folder.join("package.json"), "{\"private\": true}\n").map_err(failed)?;
    let mut install = Command::new("npm");
    install.args([
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]);
    install.args(packages).current_dir(&folder);
    println!("{}", line(&install));
    succeed(install.stdin(Stdio::null()))?;
    // Last, so that what was interrupted is made again.
    fs::write(folder.join(CONTENTS), wanted).map_err(failed)?;
    Ok(folder)
}

fn preflight() -> Result {
    if works(Command::new("node").arg("--version")) && works(Command::new("npm").arg("--version")) {
        return Ok(());
    }
    Err("`node` and `npm` do not work: install Node.js 18 or later (Debian, Ubuntu: `apt-get install nodejs npm`)"
        .to_owned())
}
