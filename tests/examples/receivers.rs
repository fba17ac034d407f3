//! The receivers in other languages, with the public libraries: `cargo xtask receivers` installs these, and says where
//! they are in `RECEIVER_PYTHON` and `RECEIVER_NODE_MODULES`.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use axum::http::HeaderMap;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use webhook_delivery::{
    Clock, Secret, SignRequest, Signer, StandardWebhooks, SystemClock, Timestamp,
};

use super::{EVENT, Folder, Program, SECRET, TOKEN, client, platform_on, within};

/// Valid JSON that a sender which parses it could not send as it was: keys twice, numbers beyond any float, a NUL.
const UNUSUAL: &str = r#"{"event_type": "order.odd", "data": {"b": 1,  "a": 1.00, "a": 2, "big": 1e400,
    "nul": "\u0000", "text": "žluť 🦀"}}"#;

#[tokio::test]
async fn python_takes_what_the_platform_sends_also_while_the_secret_is_rotated() {
    takes_what_the_platform_sends(python).await;
}

#[tokio::test]
async fn node_takes_what_the_platform_sends_also_while_the_secret_is_rotated() {
    takes_what_the_platform_sends(node).await;
}

#[tokio::test]
async fn python_refuses_what_is_changed_old_or_signed_by_somebody_else() {
    refuses_what_is_forged(python).await;
}

#[tokio::test]
async fn node_refuses_what_is_changed_old_or_signed_by_somebody_else() {
    refuses_what_is_forged(node).await;
}

#[tokio::test]
async fn python_reads_no_body_without_an_end() {
    refuses_lengths_that_are_none(python).await;
}

#[tokio::test]
async fn node_reads_no_body_without_an_end() {
    refuses_lengths_that_are_none(node).await;
}

/// How a receiver is started: what it needs may be put into the folder.
type Language = fn(&Folder) -> Command;

fn python(_: &Folder) -> Command {
    let mut command = Command::new(library("RECEIVER_PYTHON"));
    command.arg(source("receiver.py"));
    command
}

/// Node looks for packages beside the program.
fn node(folder: &Folder) -> Command {
    let folder = folder.0.path();
    let program = folder.join("receiver.mjs");
    if !program.exists() {
        std::fs::copy(source("receiver.mjs"), &program).unwrap();
        symlink(
            library("RECEIVER_NODE_MODULES"),
            folder.join("node_modules"),
        )
        .unwrap();
    }
    let mut command = Command::new("node");
    command.arg(program);
    command
}

fn library(name: &str) -> String {
    let found = std::env::var(name);
    found.unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask receivers`"))
}

fn source(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/receivers")
        .join(name)
}

async fn start(language: Language, folder: &Folder, secret: &str) -> Program {
    let mut command = language(folder);
    command
        .envs([("WEBHOOK_SECRET", secret), ("PORT", "0")])
        .env("PYTHONIOENCODING", "utf-8")
        .kill_on_drop(true);
    Program::start(&mut command).await
}

async fn takes_what_the_platform_sends(language: Language) {
    let folder = Folder::new();
    let mut receiver = start(language, &folder, SECRET).await;
    let platform = Program::start(&mut platform_on("memory:")).await;
    let endpoint = json!({"url": receiver.url, "secret": SECRET}).to_string();
    let endpoint = platform.post("/endpoints", &endpoint).await;
    for (event, event_type) in [(EVENT, "order.paid"), (UNUSUAL, "order.odd")] {
        platform.sends(event, event_type, &mut receiver).await;
    }

    let endpoint = format!("/endpoints/{}", endpoint["id"].as_str().unwrap());
    let rotated = platform
        .post(&format!("{endpoint}/rotate-secret"), "{}")
        .await;
    platform.sends(EVENT, "order.paid", &mut receiver).await;
    let mut updated = start(language, &folder, rotated["secret"].as_str().unwrap()).await;
    platform.move_endpoint(&endpoint, &updated.url).await;
    platform.sends(UNUSUAL, "order.odd", &mut updated).await;
}

impl Program {
    /// Sends an event, which the receiver takes when it first comes.
    async fn sends(&self, event: &str, event_type: &str, receiver: &mut Program) {
        let accepted = self.post("/events", event).await;
        let id = accepted["event_id"].as_str().unwrap();
        let line = receiver.line().await;
        assert!(line.starts_with(&format!("{id} {event_type} ")), "{line}");
    }

    async fn move_endpoint(&self, endpoint: &str, url: &str) {
        let request = client().patch(format!("{}{endpoint}", self.url));
        let request = request
            .bearer_auth(TOKEN)
            .header("content-type", "application/json");
        let request = request.body(json!({"url": url}).to_string());
        assert_eq!(within(request.send()).await.unwrap().status(), 200);
    }
}

async fn refuses_what_is_forged(language: Language) {
    let folder = Folder::new();
    let receiver = start(language, &folder, SECRET).await;
    let body = r#"{"type":"order.paid","timestamp":"2026-01-01T00:00:00Z","data":{"order":7}}"#;
    let changed = body.replace('7', "8");
    let now = SystemClock.now();
    let old = now - Duration::from_secs(6 * 60);
    let stranger = Secret::random();
    let secret: Secret = SECRET.parse().unwrap();

    let rightly_signed = sign(&secret, now, body);
    let attempts = [
        (rightly_signed.clone(), body, 204),
        (rightly_signed, changed.as_str(), 401),
        (sign(&secret, old, body), body, 401),
        (sign(&stranger, now, body), body, 401),
        (HeaderMap::new(), body, 401),
    ];
    for (index, (headers, body, status)) in attempts.into_iter().enumerate() {
        let request = client().post(&receiver.url).headers(headers);
        let answer = within(request.body(body.to_owned()).send()).await.unwrap();
        assert_eq!(answer.status(), status, "attempt {index}");
    }
}

/// Answers while the sender holds the connection open, and says nothing more.
async fn refuses_lengths_that_are_none(language: Language) {
    let folder = Folder::new();
    let receiver = start(language, &folder, SECRET).await;
    let address = receiver.url.strip_prefix("http://").unwrap();
    for length in ["-1", "one"] {
        let head = format!("POST / HTTP/1.1\r\nhost: here\r\ncontent-length: {length}\r\n\r\n");
        let mut connection = within(TcpStream::connect(address)).await.unwrap();
        within(connection.write_all(head.as_bytes())).await.unwrap();
        let mut line = String::new();
        let mut answer = BufReader::new(&mut connection);
        within(answer.read_line(&mut line)).await.unwrap();
        assert!(line.contains(" 400 "), "{length}: {line}");
    }
}

fn sign(secret: &Secret, at: Timestamp, body: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let request = SignRequest::new("evt_1", at, body.as_bytes(), std::slice::from_ref(secret));
    StandardWebhooks::new()
        .sign(&request, &mut headers)
        .unwrap();
    headers
}
