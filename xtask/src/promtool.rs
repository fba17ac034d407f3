//! What Prometheus itself says of what is for it: the metrics as the tests left them, its settings and the alerts.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{line, succeed, works};
use crate::services::install;

/// The package of Debian and Ubuntu.
const PACKAGE: &str = "prometheus";

/// What `webhook-axum/tests/api/metrics.rs` was answered.
const METRICS: &str = "target/tmp/metrics.txt";

const CHECKS: [&[&str]; 3] = [
    &["check", "rules", "alerts.yml"],
    &["test", "rules", "alerts_test.yml"],
    // Not whether the files that it names are there: a secret is one.
    &["check", "config", "--syntax-only", "prometheus.yml"],
];

pub(crate) fn run(root: &Path) -> Result {
    if !works(Command::new("promtool").arg("--version")) {
        println!("promtool not found");
        install::packages(&[PACKAGE])?;
        // Its package starts it where services are started at all.
        let _ = works(Command::new("service").args([PACKAGE, "stop"]));
    }
    let metrics = root.join(METRICS);
    let metrics = File::open(&metrics).map_err(|error| format!("{METRICS}: {error}"))?;
    let mut check = Command::new("promtool");
    show(check.args(["check", "metrics"]).stdin(Stdio::from(metrics)))?;
    for check in CHECKS {
        let mut promtool = Command::new("promtool");
        show(
            promtool
                .args(check)
                .current_dir(root.join("deploy/prometheus")),
        )?;
    }
    Ok(())
}

fn show(command: &mut Command) -> Result {
    println!("{}", line(command));
    succeed(command)
}
