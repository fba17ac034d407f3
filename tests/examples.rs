//! The examples as a user runs them: the built programs, over real sockets.
//!
//! `cargo test` builds examples before it runs tests; for this test alone build them by
//! `cargo build --examples --all-features`. Those that need servers are in `examples/servers.rs`; the
//! receivers in other languages, in `examples/receivers.rs`, need what `cargo xtask receivers` installs.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

#[cfg(feature = "openapi")]
#[path = "examples/api.rs"]
mod api;
#[path = "examples/connections.rs"]
mod connections;
#[path = "examples/deploy.rs"]
mod deploy;
#[path = "examples/guides.rs"]
mod guides;
#[path = "examples/receivers.rs"]
mod receivers;
#[cfg(all(feature = "postgres", feature = "redis"))]
#[path = "examples/servers.rs"]
mod servers;
#[path = "examples/traces.rs"]
mod traces;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use webhook_delivery::{Receiver, VerifiedBytes, Verifier, VerifyingKey};

/// The platform's variables: they must not come from whoever runs the tests.
const VARIABLES: [&str; 23] = [
    "PORT",
    "BIND",
    "DATABASE_URL",
    "DB_HOST",
    "DB_PORT",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "REDIS_URL",
    "ADMIN_TOKEN",
    "ROLE",
    "EGRESS_PROXY",
    "MAX_IN_FLIGHT",
    "ALLOW_HTTP",
    "ALLOW_NETWORKS",
    "DENY_NETWORKS",
    "RETRY_SCHEDULE",
    "REQUEST_TIMEOUT",
    "RETENTION_DAYS",
    "ENCRYPTION_KEY",
    "LOG",
    "LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// A key for secrets.
const KEY: &str = "kNwOPmYTTpkcBbbGQTFRlpxbOHBmXr+ucdvFCP4l8AY=";
const TOKEN: &str = "a-token-for-this-test";
const EVENT: &str = r#"{"event_type": "order.paid", "data": {"order": 7}}"#;

#[tokio::test]
async fn the_quickstart_shows_a_retry_a_dead_letter_and_a_replay_and_checks_itself() {
    let Output { status, stdout, .. } = output(&mut example("quickstart")).await;
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{stdout}");
    for shown in [
        "http_503; again in",
        "a dead letter, permanent",
        "not sent, filtered",
    ] {
        assert!(stdout.contains(shown), "{shown}: {stdout}");
    }
    let rows = stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<_> = rows
        .filter(|row| row.len() == 10 && row[0].starts_with('/'))
        .collect();
    // deliveries, succeeded, attempts, retried, dead, filtered | requests, handled
    let expected = [
        ["/everything", "6", "6", "9", "2", "0", "0", "|", "9", "6"],
        ["/payments", "4", "3", "4", "0", "1", "0", "|", "4", "2"],
        ["/large-orders", "3", "2", "2", "0", "0", "1", "|", "2", "2"],
    ];
    assert_eq!(rows, expected, "{stdout}");
    assert!(
        stdout.trim_end().ends_with("All 8 checks hold."),
        "{stdout}"
    );
}

#[tokio::test]
async fn the_platform_delivers_what_is_posted_retries_and_drains_on_sigterm() {
    let mut inbox = Inbox::open().await;
    let mut platform = Program::start(platform().envs([
        ("ADMIN_TOKEN", TOKEN),
        ("ALLOW_HTTP", "true"),
        ("ALLOW_NETWORKS", "127.0.0.0/8"),
        ("RETRY_SCHEDULE", "0.05"),
        ("LOG", "debug"),
        ("LOG_FORMAT", "json"),
    ]))
    .await;
    let dashboard = platform.line().await;
    let dashboard = dashboard
        .strip_prefix("dashboard at ")
        .expect("a second line");
    let root = within(client().get(&platform.url).send()).await.unwrap();
    assert_eq!(root.status(), StatusCode::OK);
    assert!(root.url().as_str().starts_with(dashboard), "{}", root.url());
    let wanted = json!({"url": inbox.url, "event_types": ["order.*"], "secret": SECRET});
    let created = platform.post("/endpoints", &wanted.to_string()).await;
    assert_eq!(created["secret"], SECRET);

    let event = r#"{"event_type": "order.paid", "data": {"b": 1,  "a": 1.00}}"#;
    let first = platform.post("/events", event).await;
    let (webhook, answer) = inbox.next().await;
    answer.send(StatusCode::SERVICE_UNAVAILABLE).unwrap();
    assert_eq!(webhook.id, first["event_id"]);
    assert!(webhook.body.ends_with(br#""data":{"b": 1,  "a": 1.00}}"#));
    let (again, answer) = inbox.next().await;
    answer.send(StatusCode::OK).unwrap();
    assert_eq!((&again.id, &again.body), (&webhook.id, &webhook.body));

    let second = platform.post("/events", event).await;
    let (webhook, answer) = inbox.next().await;
    platform.terminate().await;
    assert_eq!(platform.line().await, "stopping");
    answer.send(StatusCode::OK).unwrap();
    assert_eq!(platform.line().await, "stopped");
    let (code, log) = platform.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(webhook.id, second["event_id"]);
    let delivered = |line: &Value| {
        line["fields"]["message"] == "delivered" && line["fields"]["event"] == second["event_id"]
    };
    let mut lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    assert!(lines.any(|line| delivered(&line)), "{log}");
}

/// The tests are built with all features, and could not tell.
#[tokio::test]
async fn a_platform_that_is_run_without_naming_features_checks_schemas() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "--edges", "normal,dev"]);
    tree.args([
        "--package",
        env!("CARGO_PKG_NAME"),
        "--invert",
        "jsonschema",
    ]);
    tree.current_dir(env!("CARGO_MANIFEST_DIR"));
    let Output { status, stderr, .. } = output(&mut tree).await;
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
}

#[tokio::test]
async fn the_platforms_api_asks_for_the_token() {
    let platform = Program::start(platform().env("ADMIN_TOKEN", TOKEN)).await;
    let url = format!("{}/events", platform.url);
    let refused = client().get(&url).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let allowed = client().get(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(allowed.status(), 200);
    let health = client()
        .get(format!("{}/health", platform.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn without_a_token_the_platform_warns_that_it_is_open_on_loopback() {
    let platform = Program::start(&mut platform()).await;
    let events = client()
        .get(format!("{}/events", platform.url))
        .send()
        .await
        .unwrap();
    assert_eq!(events.status(), 200);
    platform.terminate().await;
    let (code, log) = platform.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("ADMIN_TOKEN is not set: the API is open"),
        "{log}"
    );
}

#[tokio::test]
async fn without_a_token_the_platform_is_for_this_machine_whatever_leads_to_it() {
    let open = Program::start(&mut platform()).await;
    let locked = Program::start(platform().env("ADMIN_TOKEN", TOKEN)).await;
    let status = async |platform: &Program, path: &str, host: &str| {
        let url = format!("{}{path}", platform.url);
        let request = client().get(url).header("host", host);
        let answer = request.bearer_auth(TOKEN).send().await.unwrap();
        answer.status().as_u16()
    };
    for own in [
        "localhost",
        "LocalHost:8000",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]",
        "[::1]:8000",
    ] {
        assert_eq!(status(&open, "/events", own).await, 200, "{own}");
    }
    for foreign in [
        "rebound.example.com",
        "rebound.example.com:8000",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "10.0.0.1",
        "[::2]:8000",
        "",
    ] {
        for path in ["/events", "/dashboard/", "/metrics", "/nothing", "/"] {
            assert_eq!(status(&open, path, foreign).await, 403, "{foreign} {path}");
        }
        for probe in ["/health", "/ready"] {
            assert_eq!(status(&open, probe, foreign).await, 200, "{foreign}");
        }
        assert_eq!(status(&locked, "/events", foreign).await, 200, "{foreign}");
    }
    let answer = client().post(format!("{}/events", open.url));
    let answer = answer.header("host", "rebound.example.com").send();
    let said = answer.await.unwrap().text().await.unwrap();
    assert!(said.contains("set ADMIN_TOKEN"), "{said}");
}

#[tokio::test]
async fn endpoints_in_denied_networks_are_refused_whatever_is_allowed() {
    let settings = [
        ("ALLOW_NETWORKS", "10.0.0.0/8"),
        ("DENY_NETWORKS", "10.9.0.0/16, 203.0.113.7/32,8.8.8.0/24"),
    ];
    let platform = Program::start(platform().envs(settings)).await;
    for (host, status) in [
        ("10.8.0.1", 201),
        ("10.9.0.1", 422),
        ("8.8.4.4", 201),
        ("8.8.8.8", 422),
    ] {
        let request = client().post(format!("{}/endpoints", platform.url));
        let body = json!({"url": format!("https://{host}/")});
        let request = request.header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
    }
}

#[tokio::test]
async fn a_worker_serves_probes_and_settings_without_effect_are_told() {
    let settings = [
        ("ROLE", "worker"),
        ("RETENTION_DAYS", "60"),
        ("ENCRYPTION_KEY", "hush-hush"),
    ];
    let platform = Program::start(platform().envs(settings)).await;
    for (path, status) in [
        ("health", 200),
        ("ready", 200),
        ("metrics", 200),
        ("events", 404),
    ] {
        let answer = client()
            .get(format!("{}/{path}", platform.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    platform.terminate().await;
    let (code, log) = platform.end().await;
    assert_eq!(code, Some(0), "{log}");
    for (name, _) in settings {
        assert!(
            log.lines()
                .any(|line| line.contains(&format!("{name} is ignored"))
                    || line.contains(&format!("{name}: memory is not shared"))),
            "{name}: {log}"
        );
    }
    assert!(!log.contains("hush-hush"), "{log}");
}

#[tokio::test]
async fn a_wrong_value_stops_the_platform_with_one_line_that_names_the_variable() {
    let wrong = [
        ("PORT", "70000"),
        ("BIND", "here"),
        ("BIND", "0.0.0.0"), // without ADMIN_TOKEN
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://user:hush-hush@db/webhooks"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "postgres://user:hush-hush@db/webhooks"), // without ENCRYPTION_KEY
        ("DB_HOST", "db"),
        ("DB_PASSWORD", "hush-hush"),
        ("REDIS_URL", "redis://:hush-hush@redis"),
        ("ADMIN_TOKEN", ""),
        ("ADMIN_TOKEN", "hush hush-hush"),
        ("ROLE", "boss"),
        ("EGRESS_PROXY", "socks5://user:hush-hush@proxy"),
        ("MAX_IN_FLIGHT", "0"),
        ("ALLOW_HTTP", "maybe"),
        ("ALLOW_NETWORKS", "10.0.0.0/33"),
        ("DENY_NETWORKS", "203.0.113.0/24;198.51.100.7"),
        ("RETRY_SCHEDULE", "5,soon"),
        ("RETRY_SCHEDULE", "-1"),
        ("REQUEST_TIMEOUT", "0"),
        ("RETENTION_DAYS", "-3"),
        ("RETENTION_DAYS", "7"), // while a delivery may wait for 7
        ("LOG", "verbose"),
        ("LOG_FORMAT", "xml"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "hush-hush"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://hush-hush:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hush-hush@otel"),
    ];
    for (name, value) in wrong {
        let output = output(platform().env(name, value)).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}={value}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}={value}: {said}");
        let blamed = match value {
            "0.0.0.0" => "ADMIN_TOKEN",
            _ if value.starts_with("postgres:") => "ENCRYPTION_KEY",
            _ => name,
        };
        assert!(
            said.starts_with(&format!("platform: {blamed}: ")),
            "{name}={value}: {said}"
        );
        assert!(!said.contains("hush-hush"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn what_is_no_key_stops_the_platform() {
    let folder = Folder::new();
    for key in [
        "hush-hush",
        "aHVzaC1odXNo",
        &format!("{KEY},"),
        &format!("{KEY},{KEY}"),
    ] {
        let mut command = platform_on(&folder.database());
        let output = output(command.env("ENCRYPTION_KEY", key)).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("platform: ENCRYPTION_KEY: "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("hush-hush") && !said.contains("aHVzaC") && !said.contains(KEY));
    }
}

#[tokio::test]
async fn rekey_moves_secrets_from_no_key_to_one_and_to_the_next() {
    let (folder, mut inbox) = (Folder::new(), Inbox::open().await);
    let with = |key: &str| {
        let mut command = platform_on(&folder.database());
        command.env("ENCRYPTION_KEY", key);
        command
    };
    let platform = Program::start(&mut with("plaintext")).await;
    let endpoint = json!({"url": inbox.url, "secret": SECRET}).to_string();
    platform.post("/endpoints", &endpoint).await;
    platform.terminate().await;
    platform.end().await;
    assert!(folder.holds(SECRET));

    let said = async |keys: &str| {
        let output = output(with(keys).arg("rekey")).await;
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert_eq!(said("plaintext").await.0, Some(1));
    let one = (Some(0), "endpoints sealed anew: 1\n".to_owned());
    assert_eq!(said(KEY).await, one);
    let next = "TmV4dCBrZXksIDMyIGJ5dGVzIGxvbmcsIGZvciB0ZXM=";
    assert_eq!(
        said(next).await.0,
        Some(1),
        "without the key that sealed it"
    );
    assert_eq!(said(&format!("{next},{KEY}")).await, one);

    let platform = Program::start(&mut with(next)).await;
    let accepted = platform.post("/events", EVENT).await;
    let (webhook, answer) = inbox.next().await;
    answer.send(StatusCode::OK).unwrap();
    assert_eq!(webhook.id, accepted["event_id"]);
    platform.terminate().await;
    let (code, log) = platform.end().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn plaintext_does_not_lock_out_what_a_key_in_a_file_sealed() {
    let folder = Folder::new();
    let platform = Program::start(&mut platform_on(&folder.database())).await;
    platform.terminate().await;
    platform.end().await;
    let mut command = platform_on(&folder.database());
    let output = output(command.env("ENCRYPTION_KEY", "plaintext")).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.lines().count()),
        (Some(1), 1),
        "{said}"
    );
    assert!(said.contains("events.db.key: ENCRYPTION_KEY: "), "{said}");
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_stops_the_platform_with_one_line() {
    let mut command = platform_on("sqlite:/there/is/no/such/folder/webhook.db");
    let output = output(command.env("LOG", "off")).await;
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "platform: the database: SQLite cannot open or migrate the file: error returned \
                    from database: (code: 14) unable to open database file\n";
    assert_eq!((output.status.code(), said.as_str()), (Some(1), expected));
}

#[tokio::test]
async fn without_a_database_url_the_platform_keeps_events_in_a_file_where_it_is_started() {
    let folder = Folder::new();
    let mut command = platform();
    command.env_remove("DATABASE_URL").current_dir(&folder.0);
    let output = output(command.arg("migrate")).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(said, "the schema is up to date\n");
    assert!(folder.0.path().join("webhook.db").exists());
}

#[tokio::test]
async fn what_the_platform_accepted_into_sqlite_is_delivered_after_a_kill() {
    let (folder, mut inbox) = (Folder::new(), Inbox::open().await);
    let api = Program::start(platform_on(&folder.database()).env("ROLE", "api")).await;
    let accepted = api.accept_event_for(&inbox).await;
    api.kill().await;
    let platform = Program::start(&mut platform_on(&folder.database())).await;
    let (webhook, answer) = inbox.next().await;
    answer.send(StatusCode::OK).unwrap();
    assert_eq!(webhook.id, accepted["event_id"]);
    platform.terminate().await;
    let (code, log) = platform.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!folder.holds(SECRET));
    let key = std::fs::metadata(folder.0.path().join("events.db.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_platforms_help_lists_every_variable_with_its_default() {
    let output = output(platform().arg("--help").env_remove("DATABASE_URL")).await;
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    let options: Vec<_> = help.split("\n      --").skip(1).collect();
    for name in VARIABLES {
        let option = options
            .iter()
            .find(|it| it.contains(&format!("[env: {name}")));
        let option = option.unwrap_or_else(|| panic!("{name} is missing: {help}"));
        assert!(option.contains("[default: "), "{option}");
    }
}

#[tokio::test]
async fn health_tells_whether_a_platform_listens() {
    let platform = Program::start(&mut platform()).await;
    let (_, port) = platform.url.rsplit_once(':').unwrap();
    let mut health = self::platform();
    health.env("PORT", port).arg("health");
    let answer = output(&mut health).await;
    assert!(answer.status.success(), "{answer:?}");

    platform.terminate().await;
    platform.end().await;
    let answer = output(&mut health).await;
    let said = String::from_utf8(answer.stderr).unwrap();
    assert_eq!(answer.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("platform: 127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn memory_needs_no_migration() {
    let output = output(platform().arg("migrate")).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(said, "memory: there is nothing to migrate\n");
}

#[tokio::test]
async fn an_order_and_its_webhook_are_one_transaction_on_sqlite() {
    let output = output(&mut example("transactional")).await;
    holds_together(&output);
}

fn holds_together(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout.matches("rolled back").count(), 2, "{stdout}");
    assert_eq!(
        stdout.matches("committed, with event").count(),
        2,
        "{stdout}"
    );
    assert!(stdout.ends_with("All 4 checks hold.\n"), "{stdout}");
}

#[cfg(feature = "tower")]
#[tokio::test]
async fn a_layer_adds_a_header_and_the_guard_stays() {
    let Output { status, stdout, .. } = output(&mut example("layers")).await;
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{stdout}");
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines[0], "x-region: eu-1");
    assert!(lines[2].starts_with("webhook-signature: v1,"), "{stdout}");
    let refused = "169.254.169.254: the network policy forbids this address";
    assert_eq!(lines[3..], [refused], "{stdout}");
}

#[tokio::test]
async fn the_shop_tells_the_receiver_about_an_order() {
    let mut receiver =
        Program::start(example("receiver").args(["--port", "0", "--secret", SECRET])).await;
    let shop =
        Program::start(example("axum_app").envs([("PORT", "0"), ("WEBHOOKS_TOKEN", TOKEN)])).await;
    let endpoint = json!({"url": receiver.url, "event_types": ["order.*"], "secret": SECRET});
    shop.post("/webhooks/endpoints", &endpoint.to_string())
        .await;
    let placed = shop
        .post("/orders", r#"{"item": "tea", "total": 12}"#)
        .await;
    let line = receiver.line().await;
    let id = placed["event_id"].as_str().unwrap();
    assert_eq!(
        line,
        format!(r#"{id} order.placed {{"item":"tea","order":1,"total":12}}"#)
    );
    shop.terminate().await;
    let (code, log) = shop.end().await;
    assert_eq!(code, Some(0), "{log}");
}

/// A built example. It dies with the test.
fn example(name: &str) -> Command {
    // target/<profile>/deps/<this test> and target/<profile>/examples/<name>
    let this = std::env::current_exe().unwrap();
    let built: PathBuf = this
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        built.exists(),
        "{} is not built: run `cargo build --examples --all-features`",
        built.display()
    );
    let mut command = Command::new(built);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

/// The platform in memory, on a free port.
fn platform() -> Command {
    let mut command = example("platform");
    command.envs([("DATABASE_URL", "memory:"), ("PORT", "0")]);
    command
}

/// The platform on a database, for receivers on this machine.
fn platform_on(database: &str) -> Command {
    let mut command = platform();
    command.envs([
        ("DATABASE_URL", database),
        ("ADMIN_TOKEN", TOKEN),
        ("ALLOW_HTTP", "true"),
        ("ALLOW_NETWORKS", "127.0.0.0/8"),
    ]);
    command
}

/// A new folder, removed in the end.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::with_prefix("webhook-examples-").unwrap())
    }

    /// Whether a file in it holds this text.
    fn holds(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.0.path()).unwrap();
        files.into_iter().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            String::from_utf8_lossy(&bytes).contains(text)
        })
    }

    /// A database in it, as the platform takes it.
    fn database(&self) -> String {
        format!("sqlite:{}", self.0.path().join("events.db").display())
    }
}

/// Runs a program to its end.
async fn output(command: &mut Command) -> Output {
    within(command.stdin(Stdio::null()).output()).await.unwrap()
}

/// A program that serves.
struct Program {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: JoinHandle<String>,
    url: String,
}

impl Program {
    /// Starts it, and reads the line that tells where it listens.
    async fn start(command: &mut Command) -> Self {
        let pipes = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.unwrap();
            text
        });
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut program = Self {
            child,
            stdout,
            stderr,
            url: String::new(),
        };
        let line = program.line().await;
        program.url = line
            .strip_prefix("listening on ")
            .expect("the first line")
            .to_owned();
        program
    }

    /// The next line of its output.
    async fn line(&mut self) -> String {
        let line = within(self.stdout.next_line()).await.unwrap();
        line.expect("the program goes on")
    }

    /// Posts JSON, as whoever has the token.
    async fn post(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.try_post(path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    async fn try_post(&self, path: &str, body: &str) -> (u16, Value) {
        let request = client()
            .post(format!("{}{path}", self.url))
            .bearer_auth(TOKEN);
        let request = request.header("content-type", "application/json");
        let answer = within(request.body(body.to_owned()).send()).await.unwrap();
        json_of(answer).await
    }

    /// Registers an endpoint, and posts an event for it.
    async fn accept_event_for(&self, inbox: &Inbox) -> Value {
        let endpoint = json!({"url": inbox.url, "secret": SECRET}).to_string();
        self.post("/endpoints", &endpoint).await;
        self.post("/events", EVENT).await
    }

    /// Ends it as a crash would.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn terminate(&self) {
        let id = self.child.id().expect("the program runs").to_string();
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -TERM \"$0\"", &id]);
        assert!(kill.status().await.unwrap().success());
    }

    /// Waits for its end: its exit code, and what it wrote to stderr.
    async fn end(mut self) -> (Option<i32>, String) {
        let status = within(self.child.wait()).await.unwrap();
        (status.code(), self.stderr.await.unwrap())
    }
}

async fn json_of(answer: reqwest::Response) -> (u16, Value) {
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).expect(&text))
}

/// A receiver in the test's hands: every verified webhook comes with the answer that is still to be given.
struct Inbox {
    url: String,
    webhooks: mpsc::UnboundedReceiver<Delivered>,
}

type Delivered = (VerifiedBytes, oneshot::Sender<StatusCode>);

#[derive(Clone)]
struct Desk {
    receiver: Receiver,
    inbox: mpsc::UnboundedSender<Delivered>,
}

impl FromRef<Desk> for Receiver {
    fn from_ref(desk: &Desk) -> Self {
        desk.receiver.clone()
    }
}

impl Inbox {
    async fn open() -> Self {
        async fn take(
            State(desk): State<Desk>,
            headers: HeaderMap,
            webhook: VerifiedBytes,
        ) -> StatusCode {
            assert!(headers.contains_key("webhook-signature"));
            let (answer, answered) = oneshot::channel();
            desk.inbox.send((webhook, answer)).unwrap();
            answered.await.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        let key: VerifyingKey = SECRET.parse().unwrap();
        let receiver = Receiver::builder(Verifier::new(key)).build();
        let (inbox, webhooks) = mpsc::unbounded_channel();
        let app = Router::new()
            .route("/in", post(take))
            .with_state(Desk { receiver, inbox });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { url, webhooks }
    }

    async fn next(&mut self) -> Delivered {
        within(self.webhooks.recv()).await.unwrap()
    }
}

fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Keeps a broken program from hanging the tests; nothing here takes nearly as long.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("an answer in a minute")
}
