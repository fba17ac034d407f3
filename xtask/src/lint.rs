//! `cargo xtask lint`: the house rules that no compiler checks.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::Result;
use crate::tree::Tree;

type Rule = fn(&Tree) -> Vec<Violation>;

const RULES: &[(&str, Rule)] = &[
    ("queries-are-used", queries_are_used),
    ("nothing-is-left-undone", nothing_is_left_undone),
    ("tests-do-not-sleep", tests_do_not_sleep),
    ("tests-are-not-ignored", tests_are_not_ignored),
    ("files-are-small", files_are_small),
    ("links-lead-somewhere", links_lead_somewhere),
];

/// What breaks a rule for a reason: rule, file, part of the line, reason. One that nothing needs any
/// more is itself a violation.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    (
        "tests-do-not-sleep",
        "webhook-core/tests/wire/hostile.rs",
        "from_millis(5)",
        "a receiver that dribbles; no assertion waits for it",
    ),
    (
        "tests-do-not-sleep",
        "tests/faults/arena.rs",
        concat!("thread::", "sleep("),
        "faults happen in real time, between processes",
    ),
    (
        "tests-do-not-sleep",
        "tests/faults/sink.rs",
        "(DELAY)",
        "a receiver that takes its time; no assertion waits for it",
    ),
    (
        "tests-are-not-ignored",
        "webhook-core/tests/ssrf/transport.rs",
        "run by proxies_from_the_environment_are_ignored",
        "another test runs it, in a process with other variables",
    ),
];

/// The most bytes of a file that people are to read.
const MAX_BYTES: u64 = 256 * 1024;

// In parts, so that this file does not break its own rules.
const UNDONE: [&str; 4] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
];
const SLEEP: &str = concat!("sleep", "(");
const IGNORE: &str = concat!("#[", "ignore");

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    /// Zero for the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

pub(crate) fn run(root: &Path) -> Result {
    check(&Tree::of(root)?, EXCEPTIONS)
}

fn check(tree: &Tree, exceptions: &[(&str, &str, &str, &str)]) -> Result {
    let mut count = 0;
    let mut needed = vec![false; exceptions.len()];
    for (name, rule) in RULES {
        let mut violations = rule(tree);
        violations.retain(|it| {
            let excepted = exceptions.iter().position(|(rule, file, part, _)| {
                rule == name && *file == it.file && it.what.contains(part)
            });
            excepted.inspect(|index| needed[*index] = true).is_none()
        });
        println!(
            "{name}: {}",
            if violations.is_empty() {
                "ok"
            } else {
                "broken"
            }
        );
        for violation in &violations {
            println!("  {violation}");
        }
        count += violations.len();
    }
    for ((rule, file, part, _), _) in exceptions.iter().zip(needed).filter(|(_, needed)| !needed) {
        println!("{rule}: nothing needs the exception for {part:?} in {file}");
        count += 1;
    }
    match count {
        0 => Ok(()),
        count => Err(format!("the house rules are broken {count} times")),
    }
}

/// Each `.sql` and `.lua` file but migrations and what is frozen in `compat` is named in its package's
/// sources: in a string, or without its ending on a line of a macro's list that adds it.
fn queries_are_used(tree: &Tree) -> Vec<Violation> {
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    for file in tree.with_extension(&["rs"]) {
        *sources.entry(package_of(tree, file)).or_default() += &tree.text(file);
    }
    let named = |file: &str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        let sources = sources.get(package_of(tree, file));
        let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
        let forms = [format!("\"{name}\""), format!("/{name}\"")];
        let (list, entry) = (
            format!("stringify!($name), \".{extension}\""),
            format!("{stem},"),
        );
        sources.is_some_and(|text| {
            let is_listed = text.contains(&list) && text.lines().any(|line| line.trim() == entry);
            is_listed || forms.iter().any(|form| text.contains(form))
        })
    };
    let is_by_itself = |folder| ["migrations", "compat"].contains(&folder);
    tree.with_extension(&["sql", "lua"])
        .filter(|file| !file.split('/').any(is_by_itself) && !named(file))
        .map(|file| whole(file, "no source of its package names it".to_owned()))
        .collect()
}

/// The folder of the package that a file is of: the nearest with a manifest.
fn package_of<'a>(tree: &Tree, file: &'a str) -> &'a str {
    let mut folder = file;
    while let Some((parent, _)) = folder.rsplit_once('/') {
        if tree.files.contains(&format!("{parent}/Cargo.toml")) {
            return parent;
        }
        folder = parent;
    }
    ""
}

fn nothing_is_left_undone(tree: &Tree) -> Vec<Violation> {
    let sources = tree.with_extension(&["rs", "sql", "lua"]);
    let undone = |line: &str| UNDONE.iter().any(|word| line.contains(word));
    sources
        .flat_map(|file| lines_where(file, &tree.text(file), undone))
        .collect()
}

/// No test waits for time to pass. A clock's own waiting, and its definition, are what tests use instead.
fn tests_do_not_sleep(tree: &Tree) -> Vec<Violation> {
    let sleeps = |line: &str| {
        line.match_indices(SLEEP).any(|(at, _)| {
            let before = &line[..at];
            !(before.ends_with("fn ") || before.ends_with("clock."))
        })
    };
    let of_file = |file| {
        let text = tree.text(file);
        let tests_begin = first_line_of_tests(file, &text);
        let mut violations = lines_where(file, &text, sleeps);
        violations.retain(|violation| violation.line >= tests_begin);
        violations
    };
    tree.with_extension(&["rs"]).flat_map(of_file).collect()
}

/// One for files that are tests as a whole; in others the tests are the module at the end.
fn first_line_of_tests(file: &str, text: &str) -> usize {
    let path = format!("/{file}");
    if ["/tests/", "/testing/", "/tests.rs"]
        .iter()
        .any(|part| path.contains(part))
    {
        return 1;
    }
    let starts = |line: &str| {
        ["#[cfg(test)", "#[cfg(all(test"]
            .iter()
            .any(|it| line.starts_with(it))
    };
    let marker = text.lines().position(|line| starts(line.trim_start()));
    marker.map_or(usize::MAX, |index| index + 1)
}

fn tests_are_not_ignored(tree: &Tree) -> Vec<Violation> {
    let sources = tree.with_extension(&["rs"]);
    let ignored = |line: &str| line.trim_start().starts_with(IGNORE);
    sources
        .flat_map(|file| lines_where(file, &tree.text(file), ignored))
        .collect()
}

/// Test data and the lock file may be large.
fn files_are_small(tree: &Tree) -> Vec<Violation> {
    let may_be_large =
        |file: &str| file == "Cargo.lock" || format!("/{file}").contains("/tests/data/");
    let size = |file: &str| fs::metadata(tree.root.join(file)).map_or(0, |it| it.len());
    let files = tree.files.iter().map(String::as_str);
    files
        .filter(|file| !may_be_large(file) && size(file) > MAX_BYTES)
        .map(|file| whole(file, format!("{} bytes, more than {MAX_BYTES}", size(file))))
        .collect()
}

/// Links in Markdown to files of the project lead to one, or to a folder.
fn links_lead_somewhere(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.with_extension(&["md"]) {
        for (line, target) in links(&tree.text(file)) {
            if !exists(tree, file, &target) {
                let what = format!("the link to {target} leads nowhere");
                violations.push(Violation {
                    file: file.to_owned(),
                    line,
                    what,
                });
            }
        }
    }
    violations
}

/// Line and target of each link to a file, outside code blocks. Rustdoc's links to items have `::`.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let inline = line
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap_or(rest));
        let definition = line.strip_prefix('[').and_then(|it| it.split_once("]: "));
        for target in inline.chain(definition.map(|(_, target)| target)) {
            let target = target.split([' ', '#']).next().unwrap_or_default();
            let elsewhere =
                target.contains("://") || target.contains("::") || target.starts_with("mailto:");
            if !target.is_empty() && !elsewhere {
                links.push((index + 1, target.to_owned()));
            }
        }
    }
    links
}

fn exists(tree: &Tree, file: &str, target: &str) -> bool {
    let mut path: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => file
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if path.pop().is_none() => return false,
            ".." => {}
            part => path.push(part),
        }
    }
    let path = path.join("/");
    let folder = format!("{path}/");
    path.is_empty()
        || tree
            .files
            .iter()
            .any(|it| *it == path || it.starts_with(&folder))
}

fn lines_where(file: &str, text: &str, matches: impl Fn(&str) -> bool) -> Vec<Violation> {
    let numbered = text.lines().enumerate().filter(|(_, line)| matches(line));
    let violation = |(index, line): (usize, &str)| Violation {
        file: file.to_owned(),
        line: index + 1,
        what: line.trim().to_owned(),
    };
    numbered.map(violation).collect()
}

fn whole(file: &str, what: String) -> Violation {
    Violation {
        file: file.to_owned(),
        line: 0,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::Temp;

    /// `file:line` of each violation in a tree of these files.
    fn found(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
        let violations = rule(&Temp::with(files).tree());
        violations
            .iter()
            .map(|it| format!("{}:{}", it.file, it.line))
            .collect()
    }

    #[test]
    fn a_query_that_its_package_does_not_name_is_found() {
        let files = [
            ("pg/Cargo.toml", ""),
            (
                "pg/src/lib.rs",
                r#"include_str!("sql/claim.sql"), "push.lua""#,
            ),
            ("pg/src/sql/claim.sql", ""),
            ("pg/src/sql/aim.sql", ""),
            ("pg/src/push.lua", ""),
            ("pg/migrations/1.sql", ""),
            ("pg/tests/compat/v1/aim.sql", ""),
            ("lite/Cargo.toml", ""),
            ("lite/src/claim.sql", ""),
            ("list/Cargo.toml", ""),
            (
                "list/src/lib.rs",
                "concat!(\"sql/\", stringify!($name), \".sql\")\nall! {\n    claim,\n}\naim",
            ),
            ("list/src/sql/claim.sql", ""),
            ("list/src/sql/aim.sql", ""),
        ];
        let expected = [
            "list/src/sql/aim.sql:0",
            "lite/src/claim.sql:0",
            "pg/src/sql/aim.sql:0",
        ];
        assert_eq!(found(queries_are_used, &files), expected);
    }

    #[test]
    fn what_is_left_undone_is_found() {
        for word in UNDONE {
            let planted = format!("fn a() {{}}\n// {word}\n");
            let files = [("a.rs", planted.as_str()), ("b.md", word)];
            assert_eq!(found(nothing_is_left_undone, &files), ["a.rs:2"], "{word}");
        }
    }

    #[test]
    fn sleep_is_found_in_tests_only_and_not_on_clocks() {
        let call = format!("time::{SLEEP}d).await;\n");
        let fine = format!("async fn {SLEEP}) {{}}\nself.clock.{SLEEP}d);\n");
        let module = format!("{call}#[cfg(test)]\nmod tests {{\n{fine}{call}");
        let files = [
            ("src/a.rs", call.as_str()),
            ("src/b.rs", &module),
            ("src/c/tests.rs", &call),
            ("tests/d.rs", &call),
            ("p/tests/e.rs", &fine),
        ];
        let expected = ["src/b.rs:6", "src/c/tests.rs:1", "tests/d.rs:1"];
        assert_eq!(found(tests_do_not_sleep, &files), expected);
    }

    #[test]
    fn an_ignored_test_is_found() {
        let planted = format!("#[test]\n    {IGNORE} = \"slow\"]\nfn a() {{}}");
        assert_eq!(
            found(tests_are_not_ignored, &[("a.rs", &planted)]),
            ["a.rs:2"]
        );
    }

    #[test]
    fn a_large_file_is_found_unless_it_is_data() {
        let large = "x".repeat(256 * 1024 + 1);
        let files = [
            ("Cargo.lock", large.as_str()),
            ("a.json", &large),
            ("b.json", &large[1..]),
            ("p/tests/data/c.json", &large),
        ];
        assert_eq!(found(files_are_small, &files), ["a.json:0"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let readme = "[a](docs/A.md#b) [b](src) [c](https://x/) [d](#e) [f](crate::G)\n\
                      [gone](docs/GONE.md)\n```\n[code](x)\n```\n[ref]: GONE.md\n[out](../x)\n";
        let files = [
            ("README.md", readme),
            (
                "docs/A.md",
                "[up](../README.md) [here](A.md) [root](/src/lib.rs)\n[b](README.md)",
            ),
            ("src/lib.rs", ""),
        ];
        let expected = ["README.md:2", "README.md:6", "README.md:7", "docs/A.md:2"];
        assert_eq!(found(links_lead_somewhere, &files), expected);
    }

    #[test]
    fn an_exception_holds_for_its_line_and_must_be_needed() {
        let planted = format!("{IGNORE} = \"why\"]");
        let temp = Temp::with(&[("a.rs", &planted), ("b.rs", &planted)]);
        let exception = |file| ("tests-are-not-ignored", file, "\"why\"", "a test");
        let broken = |exceptions: &[_]| check(&temp.tree(), exceptions).is_err();
        assert!(broken(&[]));
        assert!(broken(&[exception("a.rs")]));
        assert!(!broken(&[exception("a.rs"), exception("b.rs")]));
        assert!(broken(&[
            exception("a.rs"),
            exception("b.rs"),
            exception("c.rs")
        ]));
    }
}
