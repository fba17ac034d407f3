//! What happened, written down so that it survives its writer: a line each, synced before anybody is told.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;
use uuid::Uuid;
use webhook_delivery::{Clock as _, SystemClock};

use crate::Result;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An event is about to be enqueued.
    Begun,
    /// It was not accepted.
    Refused,
    /// It was accepted under this id, at this time.
    Accepted(Uuid, i64),
    /// The receiver has it, since this time.
    Received(Uuid, i64),
}

impl Entry {
    pub(crate) fn accepted(id: Uuid) -> Self {
        Self::Accepted(id, now())
    }

    pub(crate) fn received(id: Uuid) -> Self {
        Self::Received(id, now())
    }
}

/// Microseconds since 1970, the same in all processes of this machine.
pub(crate) fn now() -> i64 {
    SystemClock.now().as_micros()
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => write!(f, "begun"),
            Self::Refused => write!(f, "refused"),
            Self::Accepted(id, at) => write!(f, "accepted {id} {at}"),
            Self::Received(id, at) => write!(f, "received {id} {at}"),
        }
    }
}

/// Not an [`Entry`].
pub(crate) struct Torn;

impl FromStr for Entry {
    type Err = Torn;

    fn from_str(line: &str) -> std::result::Result<Self, Torn> {
        let words: Vec<&str> = line.split(' ').collect();
        let known = |make: fn(Uuid, i64) -> Self, id: &str, at: &str| {
            let (Ok(id), Ok(at)) = (id.parse(), at.parse()) else {
                return Err(Torn);
            };
            Ok(make(id, at))
        };
        match words[..] {
            ["begun"] => Ok(Self::Begun),
            ["refused"] => Ok(Self::Refused),
            ["accepted", id, at] => known(Self::Accepted, id, at),
            ["received", id, at] => known(Self::Received, id, at),
            _ => Err(Torn),
        }
    }
}

/// A file that one thread appends to: what comes while it syncs goes together in the next sync.
pub(crate) struct Journal(mpsc::Sender<(Entry, oneshot::Sender<()>)>);

impl Journal {
    pub(crate) fn start(file: File) -> Self {
        let (sender, entries) = mpsc::channel();
        thread::spawn(move || {
            // Writers hear of a failure: nobody answers them.
            let _ = append(file, &entries);
        });
        Self(sender)
    }

    /// Writes an entry that nobody waits for.
    pub(crate) fn note(&self, entry: Entry) {
        let _ = self.0.send((entry, oneshot::channel().0));
    }

    /// Is ready when the entry is on the disk.
    pub(crate) async fn write(&self, entry: Entry) -> Result {
        let (sender, written) = oneshot::channel();
        self.0.send((entry, sender))?;
        Ok(written.await?)
    }
}

fn append(
    mut file: File,
    entries: &mpsc::Receiver<(Entry, oneshot::Sender<()>)>,
) -> io::Result<()> {
    while let Ok(first) = entries.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(entries.try_iter()).collect();
        let lines: String = batch
            .iter()
            .map(|(entry, _)| format!("{entry}\n"))
            .collect();
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        for (_, writer) in batch {
            let _ = writer.send(());
        }
    }
    Ok(())
}

/// What journals say, put together.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) begun: u64,
    pub(crate) refused: u64,
    /// When each event was accepted.
    pub(crate) accepted: HashMap<Uuid, i64>,
    /// When each event was received, each time.
    pub(crate) received: HashMap<Uuid, Vec<i64>>,
}

impl Account {
    /// Adds a journal. Its last line may be torn: its writer was killed.
    pub(crate) fn add(&mut self, journal: &Path) -> io::Result<()> {
        let text = fs::read_to_string(journal)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let torn = |Torn| io::Error::other(format!("{}: {line}", journal.display()));
            self.count(line.parse().map_err(torn)?);
        }
        Ok(())
    }

    /// The events that were received more than once.
    pub(crate) fn doubled(&self) -> impl Iterator<Item = Uuid> {
        let doubled = self.received.iter().filter(|(_, times)| times.len() > 1);
        doubled.map(|(id, _)| *id)
    }

    fn count(&mut self, entry: Entry) {
        match entry {
            Entry::Begun => self.begun += 1,
            Entry::Refused => self.refused += 1,
            Entry::Accepted(id, at) => drop(self.accepted.insert(id, at)),
            Entry::Received(id, at) => self.received.entry(id).or_default().push(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_but_for_a_line_that_a_kill_cut_short() {
        let id = Uuid::from_u128(7);
        let entries = [
            Entry::Begun,
            Entry::Refused,
            Entry::Accepted(id, 1),
            Entry::Received(id, 2),
            Entry::Received(id, 3),
        ];
        let lines = entries.map(|entry| format!("{entry}\n")).concat();
        let name = format!("webhook-faults-journal-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, format!("{lines}received {id} 4")).unwrap();
        let mut account = Account::default();
        account.add(&file).unwrap();
        fs::remove_file(file).unwrap();
        assert_eq!((account.begun, account.refused), (1, 1));
        assert_eq!(account.accepted, HashMap::from([(id, 1)]));
        assert_eq!(account.received, HashMap::from([(id, vec![2, 3])]));
    }
}
