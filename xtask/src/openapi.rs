//! The API against its own OpenAPI document: schemathesis asks a platform in memory whatever the document allows, and
//! what it forbids. `webhook-axum/schemathesis.toml` says how.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::process::{cargo, kill_group, lead_a_group, line, run_within};
use crate::python::venv;

/// What finds other requests in another version is pinned with it.
const PACKAGES: [&str; 3] = [
    "schemathesis==4.32.5",
    "hypothesis==6.170.17",
    "jsonschema_rs==0.60.3",
];

/// It takes a minute, most of it waiting for tests of endpoints whose breakers are open.
const LIMIT: Duration = Duration::from_secs(600);

const TOKEN: &str = "a-token-for-this-run";

/// Asks, and fails for an answer that is a server error, is not in the document, or accepts what must be refused.
pub(crate) fn run(root: &Path) -> Result {
    let programs = venv(root, "schemathesis", &PACKAGES)?;
    let folder = root.join("target/schemathesis");
    // What it keeps there of the last run would change this one.
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let platform = Platform::start(root)?;
    let mut schemathesis = Command::new(programs.join("schemathesis"));
    schemathesis.current_dir(folder).arg("--config-file");
    schemathesis.arg(root.join("webhook-axum/schemathesis.toml"));
    schemathesis.args(["run", &format!("{}/openapi.json", platform.url)]);
    schemathesis.args(["--url", &platform.url, "--no-color", "--warnings", "off"]);
    schemathesis.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    let said = line(&schemathesis);
    println!("{said}");
    let finished = run_within(schemathesis, LIMIT).map_err(|error| format!("`{said}`: {error}"))?;
    println!("{}", finished.output.trim());
    match finished.status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("schemathesis: {status}")),
        None => Err(format!("schemathesis did not end in {LIMIT:?}")),
    }
}

/// The example `platform`, until it is dropped.
struct Platform {
    process: Child,
    url: String,
}

impl Platform {
    /// Nothing leaves this machine: the proxy that it sends through is not there.
    fn start(root: &Path) -> Result<Self> {
        let mut platform = cargo(root);
        platform.args(["run", "--quiet", "--locked", "--all-features"]);
        platform.args(["--example", "platform"]).envs([
            ("DATABASE_URL", "memory:"),
            ("PORT", "0"),
            ("ADMIN_TOKEN", TOKEN),
            ("EGRESS_PROXY", "http://127.0.0.1:9"),
            ("REQUEST_TIMEOUT", "1"),
            ("LOG", "error"),
        ]);
        // Whoever runs us may have set it for the tests; it goes with Postgres only.
        platform.env_remove("REDIS_URL");
        lead_a_group(&mut platform);
        let started = platform.stdout(Stdio::piped()).spawn();
        let mut process = started.map_err(|error| format!("`{}`: {error}", line(&platform)))?;
        let mut first = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut first).ok();
        }
        let url = first
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_default()
            .to_owned();
        let platform = Self { process, url };
        if platform.url.is_empty() {
            return Err(format!("the platform did not start: {first}"));
        }
        Ok(platform)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        kill_group(&mut self.process).ok();
    }
}
