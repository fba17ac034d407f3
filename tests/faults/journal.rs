//! What happened, written down so that it survives its writer: a line each, synced before anybody is told.

use std::collections::{HashMap, HashSet};
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
use crate::load::{Call, Delivery};

/// One line, with its time where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An event is about to be enqueued.
    Begun(Call, i64),
    /// The answer left open whether it was accepted: it is enqueued once more, under its key.
    Again(Call),
    /// It was not accepted, as far as its producer knows.
    Refused(Call),
    /// Its transaction was rolled back.
    Withdrawn(Call),
    /// It was accepted under this id.
    Accepted(Call, Uuid, i64),
    /// The receiver has it.
    Received(Call, Delivery, i64),
    /// The receiver declined to take it.
    Declined(Delivery, i64),
    /// A worker begins an attempt.
    Sent(Delivery, i64),
    /// What came of a worker's attempt is in the store.
    Recorded(Delivery, i64),
}

/// Microseconds since 1970, the same in all processes of this machine.
pub(crate) fn now() -> i64 {
    SystemClock.now().as_micros()
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun(call, at) => write!(f, "begun {call} {at}"),
            Self::Again(call) => write!(f, "again {call}"),
            Self::Refused(call) => write!(f, "refused {call}"),
            Self::Withdrawn(call) => write!(f, "withdrawn {call}"),
            Self::Accepted(call, event, at) => write!(f, "accepted {call} {event} {at}"),
            Self::Received(call, delivery, at) => write!(f, "received {call} {delivery} {at}"),
            Self::Declined(delivery, at) => write!(f, "declined {delivery} {at}"),
            Self::Sent(delivery, at) => write!(f, "sent {delivery} {at}"),
            Self::Recorded(delivery, at) => write!(f, "recorded {delivery} {at}"),
        }
    }
}

/// Not an [`Entry`].
#[derive(Debug)]
pub(crate) struct Torn;

impl FromStr for Entry {
    type Err = Torn;

    fn from_str(line: &str) -> std::result::Result<Self, Torn> {
        fn read<T: FromStr>(word: &str) -> std::result::Result<T, Torn> {
            word.parse().map_err(|_| Torn)
        }
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["begun", call, at] => Self::Begun(read(call)?, read(at)?),
            ["again", call] => Self::Again(read(call)?),
            ["refused", call] => Self::Refused(read(call)?),
            ["withdrawn", call] => Self::Withdrawn(read(call)?),
            ["accepted", call, event, at] => Self::Accepted(read(call)?, read(event)?, read(at)?),
            ["received", call, delivery, at] => {
                Self::Received(read(call)?, read(delivery)?, read(at)?)
            }
            ["declined", delivery, at] => Self::Declined(read(delivery)?, read(at)?),
            ["sent", delivery, at] => Self::Sent(read(delivery)?, read(at)?),
            ["recorded", delivery, at] => Self::Recorded(read(delivery)?, read(at)?),
            _ => return Err(Torn),
        })
    }
}

/// The entries of a journal. Its last line may be torn: its writer was killed.
pub(crate) fn read(journal: &Path) -> io::Result<Vec<Entry>> {
    let text = fs::read_to_string(journal)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let torn = |line| io::Error::other(format!("{}: {line}", journal.display()));
    let entries = whole.lines();
    entries
        .map(|line| line.parse().map_err(|Torn| torn(line)))
        .collect()
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

/// What the journals of producers and of the receiver say, put together.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// When each call began.
    pub(crate) begun: HashMap<Call, i64>,
    pub(crate) refused: HashSet<Call>,
    pub(crate) withdrawn: HashSet<Call>,
    /// How often a call was repeated under its key.
    pub(crate) again: u64,
    /// Under which id each call was accepted, and when its producer heard of it.
    pub(crate) accepted: HashMap<Call, (Uuid, i64)>,
    /// The events that each call made, as producers and receiver know them.
    pub(crate) events: HashMap<Call, HashSet<Uuid>>,
    /// When each delivery was received, each time.
    pub(crate) received: HashMap<Delivery, Vec<i64>>,
    /// When each delivery was declined, each time.
    pub(crate) declined: HashMap<Delivery, Vec<i64>>,
}

impl Account {
    pub(crate) fn add(&mut self, journal: &Path) -> io::Result<()> {
        for entry in read(journal)? {
            self.count(entry);
        }
        Ok(())
    }

    /// The deliveries that were received more than once.
    pub(crate) fn doubled(&self) -> impl Iterator<Item = Delivery> {
        let doubled = self.received.iter().filter(|(_, times)| times.len() > 1);
        doubled.map(|(delivery, _)| *delivery)
    }

    /// The calls that were begun and not answered.
    pub(crate) fn open(&self) -> impl Iterator<Item = Call> {
        let is_answered = |call: &Call| {
            self.accepted.contains_key(call)
                || self.refused.contains(call)
                || self.withdrawn.contains(call)
        };
        let open = self.begun.keys().filter(move |call| !is_answered(call));
        open.copied()
    }

    /// What was accepted must arrive: all deliveries of it.
    pub(crate) fn owed(&self) -> impl Iterator<Item = (Call, Delivery)> {
        let owed = |(call, (event, _)): (&Call, &(Uuid, i64))| {
            let (call, event) = (*call, *event);
            let routes = call.kind.routes().iter();
            routes.map(move |route| {
                (
                    call,
                    Delivery {
                        event,
                        route: *route,
                    },
                )
            })
        };
        self.accepted.iter().flat_map(owed)
    }

    fn count(&mut self, entry: Entry) {
        match entry {
            Entry::Begun(call, at) => drop(self.begun.entry(call).or_insert(at)),
            Entry::Again(_) => self.again += 1,
            Entry::Refused(call) => drop(self.refused.insert(call)),
            Entry::Withdrawn(call) => drop(self.withdrawn.insert(call)),
            Entry::Accepted(call, event, at) => {
                self.accepted.insert(call, (event, at));
                self.events.entry(call).or_default().insert(event);
            }
            Entry::Received(call, delivery, at) => {
                self.received.entry(delivery).or_default().push(at);
                self.events.entry(call).or_default().insert(delivery.event);
            }
            Entry::Declined(delivery, at) => {
                self.declined.entry(delivery).or_default().push(at);
            }
            Entry::Sent(..) | Entry::Recorded(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Kind, Route};

    #[test]
    fn what_was_written_is_read_back_but_for_a_line_that_a_kill_cut_short() {
        let event = Uuid::from_u128(7);
        let delivery = Delivery {
            event,
            route: Route::Flaky,
        };
        let call = |number| Call {
            kind: Kind::Wide,
            producer: 3,
            number,
            part: 0,
        };
        let entries = [
            Entry::Begun(call(1), 1),
            Entry::Begun(call(2), 2),
            Entry::Begun(call(3), 3),
            Entry::Begun(call(4), 4),
            Entry::Again(call(1)),
            Entry::Refused(call(2)),
            Entry::Withdrawn(call(3)),
            Entry::Accepted(call(1), event, 5),
            Entry::Sent(delivery, 6),
            Entry::Declined(delivery, 7),
            Entry::Received(call(1), delivery, 8),
            Entry::Received(call(1), delivery, 9),
            Entry::Recorded(delivery, 10),
        ];
        let lines = entries.map(|entry| format!("{entry}\n")).concat();
        let name = format!("webhook-faults-journal-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, format!("{lines}received {delivery} 4")).unwrap();
        assert_eq!(read(&file).unwrap(), entries);
        let mut account = Account::default();
        account.add(&file).unwrap();
        fs::remove_file(file).unwrap();
        assert_eq!(account.begun.len(), 4);
        assert_eq!(account.open().collect::<Vec<_>>(), [call(4)]);
        assert_eq!(account.again, 1);
        assert_eq!(account.accepted, HashMap::from([(call(1), (event, 5))]));
        assert_eq!(account.received, HashMap::from([(delivery, vec![8, 9])]));
        assert_eq!(account.declined, HashMap::from([(delivery, vec![7])]));
        assert_eq!(account.doubled().collect::<Vec<_>>(), [delivery]);
        let owed: HashSet<_> = account.owed().map(|(_, delivery)| delivery).collect();
        assert_eq!((owed.len(), owed.contains(&delivery)), (2, true));
    }
}
