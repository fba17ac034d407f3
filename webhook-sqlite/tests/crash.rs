//! What was accepted is there after a kill.
#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod support;

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use uuid::Uuid;
use webhook_core::testing::{endpoint_for, event_for, run};
use webhook_core::{
    ClaimOptions, EndpointSettings, EventFilter, InsertOptions, OnConflict, PageRequest, Scope,
    Store, Timestamp,
};
use webhook_sqlite::SqliteStore;

use support::Folder;

/// Set in the process that is killed: the file that it writes.
const FILE: &str = "WEBHOOK_SQLITE_CRASH_FILE";
/// What stands before the id of an accepted event.
const ACCEPTED: &str = "accepted ";
const T0: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// This test again, in a process of its own, is the one that is killed.
#[test]
fn accepted_events_and_their_deliveries_survive_a_kill() {
    if let Some(file) = std::env::var_os(FILE) {
        run(accept_for_ever(Path::new(&file)));
    }
    let folder = Folder::new();
    let name = "accepted_events_and_their_deliveries_survive_a_kill";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(FILE, folder.file())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut accepted = HashSet::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        accepted.extend(
            line.strip_prefix(ACCEPTED)
                .and_then(|id| id.parse::<Uuid>().ok()),
        );
        if accepted.len() == 100 {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(accepted.len() >= 100, "{}", accepted.len());
    run(all_are_there(&folder.file(), &accepted));
}

async fn accept_for_ever(file: &Path) {
    let store = SqliteStore::open(file).await.unwrap();
    let endpoint = endpoint_for("default", EndpointSettings::default());
    store.insert_endpoint(&endpoint, usize::MAX).await.unwrap();
    loop {
        let events: Vec<_> = (0..5).map(|_| event_for("default", "a", "1", T0)).collect();
        store
            .insert_events(&events, &InsertOptions::new(OnConflict::Skip), Some(T0))
            .await
            .unwrap();
        for event in events {
            println!("{ACCEPTED}{}", event.id);
        }
    }
}

async fn all_are_there(file: &Path, accepted: &HashSet<Uuid>) {
    let store = SqliteStore::open(file).await.unwrap();
    let page = PageRequest::first(100_000);
    let events = store
        .events(&Scope::All, &EventFilter::default(), page)
        .await
        .unwrap();
    let stored: HashSet<_> = events.items.iter().map(|event| event.id).collect();
    assert!(accepted.is_subset(&stored));
    let live = store.unqueued(None, 100_000).await.unwrap();
    assert_eq!(live.len(), stored.len(), "an event without its delivery");
    let options = ClaimOptions::new(10, std::time::Duration::from_secs(60));
    let claimed = store
        .queue()
        .unwrap()
        .claim(options, Some(T0))
        .await
        .unwrap();
    assert_eq!(claimed.leases.len(), 10);
}
