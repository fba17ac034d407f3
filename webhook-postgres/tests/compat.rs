//! Processes of an older version run beside those of a newer, on the newest schema. What they ask for is
//! frozen in `compat/`: see its README.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Schema;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use webhook_core::testing::run;
use webhook_core::{DeliveryFilter, DeliveryStatus, Outcome, PageRequest, Scope, Store};

/// What brings the frozen statements of the newest version up to date.
const FREEZE: &str = "FREEZE=1 cargo test -p webhook-postgres --test compat frozen";

fn folder(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of each `.sql` file by its name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let Ok(files) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    let paths = files.map(|file| file.expect("a file").path());
    let text = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy();
        (
            name.into_owned(),
            fs::read_to_string(&path).expect("a text"),
        )
    };
    paths
        .filter(|path| path.extension().is_some_and(|it| it == "sql"))
        .map(text)
        .collect()
}

/// The version that the newest migration makes.
fn newest() -> usize {
    files(&folder("migrations")).len()
}

fn frozen(version: usize) -> PathBuf {
    folder(format!("tests/compat/v{version}"))
}

/// The statements as the library sends them where nobody chose a schema.
fn current() -> BTreeMap<String, String> {
    let mut statements = files(&folder("sql"));
    for text in statements.values_mut() {
        *text = text.replace("webhook.", "\"webhook\".");
    }
    statements
}

#[test]
fn the_newest_version_is_frozen() {
    let (version, current) = (newest(), current());
    let folder = frozen(version);
    if std::env::var_os("FREEZE").is_some() {
        freeze(&folder, &current);
    }
    let frozen = files(&folder);
    assert!(
        !frozen.is_empty(),
        "migration {version} makes a version whose statements are not frozen: run `{FREEZE}`, and write \
         tests/compat/v{version}.sql"
    );
    let names = current.keys().chain(frozen.keys());
    let changed: BTreeSet<_> = names
        .filter(|name| current.get(*name) != frozen.get(*name))
        .collect();
    assert!(
        changed.is_empty(),
        "tests/compat/v{version} differs from sql/, and no newer migration is there: {changed:?}; if the \
         schema needs none, run `{FREEZE}`"
    );
}

fn freeze(folder: &Path, statements: &BTreeMap<String, String>) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("it is removed");
    }
    fs::create_dir_all(folder).expect("it is made");
    for (name, text) in statements {
        fs::write(folder.join(format!("{name}.sql")), text).expect("it is written");
    }
}

#[test]
fn what_a_newer_version_follows_is_never_edited() {
    for version in 1..newest() {
        let next = format!("migrations/{:04}_*.sql", version + 1);
        // Where it was merged, if it was made on a branch: another may have come first.
        let mut added = vec!["log", "-1", "--first-parent", "-m", "--diff-filter=A"];
        added.extend(["--format=%H", "--", &next]);
        let Some(since) = git(&added) else {
            return;
        };
        // The next version is not committed yet.
        let since = if since.is_empty() { "HEAD" } else { &since };
        let statements = format!("tests/compat/v{version}");
        let edited = git(&["diff", "--name-only", since, "--", &statements]);
        assert_eq!(
            edited.as_deref(),
            Some(""),
            "processes of version {version} run with these as they were: `git checkout {since} -- {statements}`"
        );
    }
}

/// What git says of this package; `None` where there is no history.
fn git(arguments: &[&str]) -> Option<String> {
    let said = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(arguments)
        .output();
    let said = said.ok().filter(|said| said.status.success())?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

#[test]
fn every_version_lives_on_the_newest_schema() {
    run(async {
        for version in 1..=newest() {
            let schema = Schema::new().await;
            let mut connection = schema.pool.acquire().await.expect("a connection");
            let statements = files(&frozen(version));
            assert!(!statements.is_empty(), "v{version} has no statements");
            for (name, text) in statements {
                let text = text.replace("\"webhook\".", &format!("\"{}\".", schema.name));
                let prepare = format!("PREPARE \"{name}\" AS {text}");
                execute(&mut connection, prepare, &format!("v{version}/{name}")).await;
            }
            let life = folder(format!("tests/compat/v{version}.sql"));
            let text = fs::read_to_string(&life).expect("the life of an event");
            execute(&mut connection, text, &format!("v{version}.sql")).await;
            connection.close_on_drop();
            check_life(&schema, version).await;
        }
    });
}

async fn execute(connection: &mut PgConnection, text: String, name: &str) {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
    done.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// What this version of the library reads of an event that failed once and was delivered then.
async fn check_life(schema: &Schema, version: usize) {
    let (all, page) = (DeliveryFilter::default(), PageRequest::first(9));
    let found = schema.store.deliveries(&Scope::All, &all, page).await;
    let [delivery] = &found.expect("deliveries are read").items[..] else {
        panic!("v{version}: one delivery");
    };
    assert_eq!(delivery.status, DeliveryStatus::Succeeded, "v{version}");
    let attempts = schema.store.attempts(&Scope::All, delivery.id).await;
    let attempts = attempts.expect("attempts are read");
    let answers: Vec<_> = attempts
        .iter()
        .map(|attempt| match attempt.outcome {
            Outcome::Response { status, .. } => status,
            Outcome::Failed(_) => 0,
        })
        .collect();
    assert_eq!(answers, [503, 200], "v{version}");
    let event = schema.store.event(&Scope::All, delivery.event_id).await;
    let event = event.expect("the event is read").expect("it is there");
    assert_eq!(event.data().expect("data"), "7", "v{version}");
    let endpoint = schema
        .store
        .endpoint(&Scope::All, delivery.endpoint_id)
        .await;
    let endpoint = endpoint.expect("the endpoint is read");
    assert!(endpoint.is_some(), "v{version}");
}
