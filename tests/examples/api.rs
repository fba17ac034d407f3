//! The examples of `docs/api.md`, from top to bottom in one shell, as a reader pastes them.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{Folder, Program, TOKEN, platform, within};

const DOCUMENT: &str = include_str!("../../docs/api.md");
/// What stands for anything in an answer that is shown.
const ANYTHING: &str = "…";
/// What is printed before and after an example.
const MARK: &str = "=== an example";

/// A request that the document shows, and its answer.
struct Example {
    script: &'static str,
    status: &'static str,
    answer: Answer,
}

enum Answer {
    /// None if there is no body.
    Json(Option<Value>),
    /// Some of its lines, with numbers of their own at their ends.
    Text(&'static str),
}

/// All of them, and the script that makes the reader's shell ready.
fn examples() -> (&'static str, Vec<Example>) {
    let mut blocks = DOCUMENT.split("\n```").skip(1).step_by(2);
    let mut next_of = |kinds: &[&str]| {
        let block = blocks.next()?;
        let (info, text) = block.split_once('\n').unwrap_or((block, ""));
        let (kind, rest) = info.split_once(' ').unwrap_or((info, ""));
        assert!(kinds.contains(&kind), "{kinds:?} expected: {info}");
        Some((kind, rest, text))
    };
    let _start = next_of(&["text"]);
    let (_, _, setup) = next_of(&["sh"]).unwrap();
    let mut examples = Vec::new();
    while let Some((_, _, script)) = next_of(&["sh"]) {
        let (kind, status, text) = next_of(&["json", "text"]).expect("an answer");
        let parsed = || serde_json::from_str(text).expect(text);
        examples.push(Example {
            script,
            status,
            answer: match kind {
                "text" => Answer::Text(text),
                _ => Answer::Json((!text.is_empty()).then(parsed)),
            },
        });
    }
    (setup, examples)
}

#[tokio::test]
async fn the_requests_of_the_api_document_are_answered_as_it_shows() {
    let (setup, examples) = examples();
    let platform = Program::start(platform().envs([
        ("ADMIN_TOKEN", TOKEN),
        ("ALLOW_HTTP", "true"),
        ("ALLOW_NETWORKS", "127.0.0.0/8"),
    ]))
    .await;
    let setup = setup
        .replace("http://127.0.0.1:8000", &platform.url)
        .replace("s3cret", TOKEN);
    let mut script =
        format!("{setup}\ncurl() {{ command curl -w '\\n%{{http_code}}\\n' \"$@\"; }}\n");
    for example in &examples {
        script += &format!("echo '{MARK}'\n{}\n", example.script);
    }
    let said = shell(&script).await;
    let answers: Vec<&str> = said.split(MARK).skip(1).collect();
    assert_eq!(answers.len(), examples.len(), "{said}");
    for (example, said) in examples.iter().zip(answers) {
        let lines: Vec<&str> = said.trim().lines().collect();
        // Of several requests the last is shown.
        let (status, body) = (lines.last().unwrap(), lines.iter().rev().nth(1));
        assert_eq!(*status, example.status, "{}\n{said}", example.script);
        match &example.answer {
            Answer::Json(None) => {}
            Answer::Json(Some(shown)) => {
                let real = body.unwrap_or_else(|| panic!("{}: no body", example.script));
                let real = serde_json::from_str(real).expect(real);
                assert!(alike(shown, &real), "{}\n{shown}\n{real}", example.script);
            }
            Answer::Text(shown) => {
                let has = |line: &str| lines.iter().any(|it| without_number(it) == line);
                let shown = shown.lines().map(without_number);
                let missing: Vec<_> = shown.filter(|line| !has(line)).collect();
                assert!(missing.is_empty(), "{missing:?}\n{said}");
            }
        }
    }
}

#[test]
fn the_api_document_has_a_request_for_every_route() {
    let script: String = examples().1.iter().map(|example| example.script).collect();
    let requests: Vec<&str> = script.split("curl -sS \"$URL").skip(1).collect();
    let asked: BTreeSet<(String, String)> = requests.into_iter().map(route).collect();
    let document = serde_json::to_value(webhook_delivery::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{name}", "order.paid");
            let route = (method.to_uppercase(), path);
            assert!(asked.contains(&route), "{route:?} is not in {asked:?}");
        }
    }
}

/// The method and the path that an example asks.
fn route(request: &str) -> (String, String) {
    let (path, rest) = request.split_once('"').unwrap();
    let path = path.split('?').next().unwrap();
    let segments = path.split('/').map(|segment| match segment {
        "$ENDPOINT" | "$EVENT" | "$DELIVERY" | "$REPLAY" | "default" => "{id}",
        other => other,
    });
    let method = match rest.split_once("-X ") {
        Some((_, named)) => named.split_whitespace().next().unwrap(),
        None if rest.contains("--json") => "POST",
        None => "GET",
    };
    (method.to_owned(), segments.collect::<Vec<_>>().join("/"))
}

fn without_number(line: &str) -> &str {
    line.trim_end_matches(|it: char| it.is_ascii_digit())
}

/// Whether a real answer is like the one that is shown: the same fields, with the same words, and numbers and times of
/// its own.
fn alike(shown: &Value, real: &Value) -> bool {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let is_open = shown.contains_key(ANYTHING);
            let mut named = shown.iter().filter(|(name, _)| *name != ANYTHING);
            (is_open || shown.len() == real.len())
                && named.all(|(name, shown)| real.get(name).is_some_and(|real| alike(shown, real)))
        }
        (Value::Array(shown), Value::Array(real)) => match (&shown[..], &real[..]) {
            ([shown, ..], [real, ..]) => alike(shown, real),
            (shown, _) => shown.is_empty(),
        },
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::String(shown), Value::String(real)) => {
            shown.contains(ANYTHING) || shown.ends_with('Z') || shown == real
        }
        _ => std::mem::discriminant(shown) == std::mem::discriminant(real),
    }
}

/// What a script writes, run in a folder of its own.
async fn shell(script: &str) -> String {
    let folder = Folder::new();
    let mut shell = Command::new("sh");
    shell.arg("-eu").current_dir(folder.0.path());
    shell.env("no_proxy", "*").kill_on_drop(true);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).await.unwrap();
    drop(stdin);
    let output = within(shell.wait_with_output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said
}
