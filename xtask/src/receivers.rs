//! What `examples/receivers/` needs: the public libraries that receivers verify with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::process::{cargo, line, succeed};
use crate::{Result, node, python};

const PYTHON: [&str; 1] = ["standardwebhooks==1.1.0"];
const NODE: [&str; 1] = ["standardwebhooks@1.1.1"];

/// Where the libraries are, as `tests/examples/receivers.rs` looks for them: variables and their values.
pub(crate) type Libraries = BTreeMap<&'static str, PathBuf>;

/// Installs them below `target/`.
pub(crate) fn install(root: &Path) -> Result<Libraries> {
    let python = python::venv(root, "receivers", &PYTHON)?.join("python");
    let node = node::packages(root, "receivers", &NODE)?.join("node_modules");
    Ok([("RECEIVER_PYTHON", python), ("RECEIVER_NODE_MODULES", node)].into())
}

/// Sends webhooks to the receivers.
pub(crate) fn run(root: &Path) -> Result {
    let libraries = install(root)?;
    let mut build = cargo(root);
    build.args([
        "build",
        "--locked",
        "--example",
        "platform",
        "--all-features",
    ]);
    let mut test = cargo(root);
    test.args([
        "test",
        "--locked",
        "--all-features",
        "--test",
        "examples",
        "receivers::",
    ]);
    for command in [&mut build, test.envs(libraries)] {
        println!("{}", line(command));
        succeed(command)?;
    }
    Ok(())
}
