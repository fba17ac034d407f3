//! The files in `deploy/`, where they must agree with the platform and with each other. `cargo xtask deploy` judges each
//! by the schema of its kind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{VARIABLES, output, platform};

/// Variables of the images that are not ours.
const OF_OTHERS: [&str; 7] = [
    "POSTGRES_DB",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "REDISCLI_AUTH",
    "GF_SECURITY_ADMIN_PASSWORD",
    "GF_USERS_ALLOW_SIGN_UP",
    "GF_ANALYTICS_REPORTING_ENABLED",
];

/// How much longer than an attempt a platform may take to end: requests to the API, recording, the last traces, and
/// some air.
const DRAIN_MARGIN: u64 = 10 + 5 + 5 + 5;
/// The most that `REQUEST_TIMEOUT` may be.
const LONGEST_ATTEMPT: u64 = 60;

#[test]
fn every_variable_that_a_deployment_sets_is_one_of_the_platforms() {
    let known: BTreeSet<&str> = VARIABLES.into_iter().chain(OF_OTHERS).collect();
    let mut found = BTreeSet::new();
    for (file, text) in files() {
        for name in variables(&text) {
            assert!(known.contains(name), "{}: {name}", file.display());
            found.insert(name.to_owned());
        }
    }
    for name in [
        "ADMIN_TOKEN",
        "DATABASE_URL",
        "DB_HOST",
        "REDIS_URL",
        "ROLE",
        "PORT",
        "LOG_FORMAT",
    ] {
        assert!(found.contains(name), "{name} is not seen: {found:?}");
    }
}

#[tokio::test]
async fn the_image_asks_for_a_health_check_that_the_platform_has() {
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains(r#"CMD ["platform", "health"]"#));
    assert!(dockerfile.contains("STOPSIGNAL SIGTERM"));
    let help = output(platform().arg("--help")).await;
    let help = String::from_utf8(help.stdout).unwrap();
    for command in ["health", "migrate"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
}

#[test]
fn every_image_is_of_a_version() {
    let mut count = 0;
    for (file, text) in files() {
        let stages: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once(" AS ")?.1))
            .collect();
        for image in text.lines().filter_map(image) {
            count += 1;
            let is_ours = stages.contains(image) || image == "webhook-platform";
            let version = image.split_once(':').map(|(_, version)| version);
            let is_pinned = version
                .is_some_and(|it| it.contains('.') && it.contains(|c: char| c.is_ascii_digit()));
            assert!(is_ours || is_pinned, "{}: {image}", file.display());
        }
    }
    assert!(count > 10, "{count} images are seen");
    // Which the kustomization names.
    assert!(read("kubernetes/base/kustomization.yaml").contains("newTag: 0.1.0"));
}

#[test]
fn compose_asks_for_each_secret_and_the_example_names_each_variable() {
    let (compose, example) = (read("docker-compose.yml"), read(".env.example"));
    let asked: BTreeSet<&str> = compose
        .split("${")
        .skip(1)
        .filter_map(|it| it.split([':', '}']).next())
        .collect();
    let lines = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='));
    let named: BTreeSet<&str> = lines
        .map(|(name, _)| name)
        .filter(|name| is_variable(name))
        .collect();
    assert_eq!(asked, named);
    let secrets: Vec<&str> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_suffix('='))
        .collect();
    assert_eq!(secrets.len(), 5, "what has no default: {secrets:?}");
    for secret in secrets {
        assert!(
            compose.contains(&format!("${{{secret}:?")),
            "{secret} is not asked for"
        );
        assert!(
            !compose.contains(&format!("${{{secret}:-")),
            "{secret} has a default"
        );
    }
}

#[test]
fn whoever_stops_a_platform_waits_for_longer_than_its_drain() {
    let compose = read("docker-compose.yml");
    // That of the platform comes first.
    let (platform, _) = compose.split_once("\n  migrate:").unwrap();
    let compose = number(platform, "stop_grace_period: ");
    let worker = number(
        &read("kubernetes/base/worker.yaml"),
        "terminationGracePeriodSeconds: ",
    );
    for grace in [compose, worker] {
        assert!(grace >= LONGEST_ATTEMPT + DRAIN_MARGIN, "{grace} s");
    }
    // It has no attempts, but a pause before it is stopped.
    let api = number(
        &read("kubernetes/base/api.yaml"),
        "terminationGracePeriodSeconds: ",
    );
    assert!(api >= 5 + 10 + 10 + 5 + 5, "{api} s");
}

#[test]
fn the_network_policy_keeps_workers_out_of_private_networks() {
    let policy = read("kubernetes/base/networkpolicy.yaml");
    for network in [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "100.64.0.0/10",
    ] {
        assert!(
            policy.contains(&format!("              - {network}\n")),
            "{network}"
        );
    }
}

/// The number that follows, the only one that does.
fn number(text: &str, before: &str) -> u64 {
    let numbers: Vec<&str> = text
        .split(before)
        .skip(1)
        .map(|it| {
            it.split(|c: char| !c.is_ascii_digit())
                .next()
                .unwrap_or_default()
        })
        .collect();
    let [number] = numbers[..] else {
        panic!("{before}: {numbers:?}")
    };
    number.parse().unwrap()
}

/// The image that a line names.
fn image(line: &str) -> Option<&str> {
    let line = line.trim().trim_start_matches("- ");
    let image = line
        .strip_prefix("image: ")
        .or_else(|| line.strip_prefix("FROM "))?;
    image.split(' ').next()
}

/// The variables that a file sets: keys, names and `ENV`, all in capitals.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let of_line = |line| {
        let line: &str = line;
        let line = line
            .trim()
            .trim_start_matches("- ")
            .trim_start_matches("{ ");
        let line = line.strip_prefix("name: ").unwrap_or(line);
        let of_env = line
            .strip_prefix("ENV ")
            .unwrap_or_default()
            .split(' ')
            .filter_map(|it| Some(it.split_once('=')?.0));
        let of_key = line.split([':', ',']).next();
        of_key
            .into_iter()
            .chain(of_env)
            .filter(|name| is_variable(name))
            .collect::<Vec<_>>()
    };
    // Of the image's own build.
    let is_ours = |name: &&str| !["FEATURES", "FROM", "RUN", "COPY", "ENV", "USER"].contains(name);
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(of_line)
        .filter(is_ours)
}

fn is_variable(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.len() > 2
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(is_part)
}

/// What says how the platform is run, with its text.
fn files() -> Vec<(PathBuf, String)> {
    let folder = root();
    let mut files = vec![folder.join("Dockerfile"), folder.join("docker-compose.yml")];
    for part in ["base", "keda"] {
        let entries = fs::read_dir(folder.join("kubernetes").join(part)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        (file, text)
    };
    files.into_iter().map(read).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}
