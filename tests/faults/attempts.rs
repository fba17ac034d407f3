//! Each worker's own log of what it has under way, and what of it was under way when harm was done.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use webhook_delivery::{HttpTransport, Notice, Observer, Transport, TransportError};

use crate::Result;
use crate::journal::{self, Entry, now};
use crate::load::Delivery;

/// The log of this process. What it wrote outlives its kill, as the kernel has it: it is never synced.
#[derive(Clone)]
pub(crate) struct Log(Arc<File>);

impl Log {
    pub(crate) fn start(file: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(file)?;
        Ok(Self(Arc::new(file)))
    }

    fn write(&self, entry: Entry) {
        if let Err(error) = (&*self.0).write_all(format!("{entry}\n").as_bytes()) {
            tracing::error!(%error, "an attempt is not accounted for");
        }
    }
}

/// Writes down that an attempt begins, and makes it.
pub(crate) struct LoggingTransport {
    pub(crate) log: Log,
    pub(crate) inner: HttpTransport,
}

#[async_trait]
impl Transport for LoggingTransport {
    async fn send(
        &self,
        request: Request<Bytes>,
    ) -> std::result::Result<Response<Bytes>, TransportError> {
        let event = request.headers().get("webhook-id");
        let event = event.and_then(|id| id.to_str().ok()).unwrap_or_default();
        match format!("{event}{}", request.uri().path()).parse() {
            Ok(delivery) => self.log.write(Entry::Sent(delivery, now())),
            Err(_) => tracing::error!(event, "an attempt of nothing known"),
        }
        self.inner.send(request).await
    }
}

/// Writes down that an attempt's outcome is in the store.
impl Observer for Log {
    fn notice(&self, notice: &Notice<'_>) {
        let (Notice::Delivered(report) | Notice::AttemptFailed(report)) = notice else {
            tracing::error!(?notice, "nothing of what faults enqueue ends like that");
            return;
        };
        let path = report.endpoint.url.uri().path();
        if let Ok(delivery) = format!("{}{path}", report.event.id).parse() {
            self.write(Entry::Recorded(delivery, now()));
        }
    }
}

/// From when to when harm was done, and to whom: to one node's log, or to all.
#[derive(Clone, Debug)]
pub(crate) struct Harm {
    pub(crate) node: Option<usize>,
    pub(crate) time: RangeInclusive<i64>,
}

/// One try of a delivery, as its worker knew it.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    node: usize,
    began: i64,
    /// `None` if the worker never learned that it was: it died, or another took over.
    recorded: Option<i64>,
}

/// The attempts of all workers.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Vec<Attempt>);

impl Attempts {
    pub(crate) fn add(&mut self, node: usize, log: &Path) -> io::Result<()> {
        if fs::exists(log)? {
            self.count(node, &journal::read(log)?);
        }
        Ok(())
    }

    fn count(&mut self, node: usize, entries: &[Entry]) {
        let mut last: HashMap<Delivery, usize> = HashMap::new();
        for entry in entries {
            match *entry {
                Entry::Sent(delivery, began) => {
                    last.insert(delivery, self.0.len());
                    let recorded = None;
                    self.0.push(Attempt {
                        node,
                        began,
                        recorded,
                    });
                }
                Entry::Recorded(delivery, at) => {
                    if let Some(attempt) = last.remove(&delivery) {
                        self.0[attempt].recorded = Some(at);
                    }
                }
                _ => {}
            }
        }
    }

    /// How many a node began.
    pub(crate) fn of(&self, node: usize) -> u64 {
        let own = self.0.iter().filter(|attempt| attempt.node == node);
        own.count() as u64
    }

    /// How many were under way, from their beginning until they were recorded, when harm began or when it ended:
    /// each of them may have to be made once more, and nothing else. Never more than the workers have slots for
    /// at these moments; one that several harms hit counts once.
    pub(crate) fn hit_by(&self, harms: &[Harm]) -> u64 {
        let is_hit = |attempt: &&Attempt| {
            harms.iter().any(|harm| {
                harm.node.is_none_or(|node| node == attempt.node)
                    && (attempt.is_under_way(*harm.time.start())
                        || attempt.is_under_way(*harm.time.end()))
            })
        };
        self.0.iter().filter(is_hit).count() as u64
    }
}

impl Attempt {
    fn is_under_way(&self, at: i64) -> bool {
        self.began <= at && self.recorded.is_none_or(|recorded| recorded >= at)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::load::Route;

    fn harm(node: impl Into<Option<usize>>, time: RangeInclusive<i64>) -> Harm {
        let node = node.into();
        Harm { node, time }
    }

    #[test]
    fn what_was_under_way_at_a_harm_is_what_had_begun_and_was_not_recorded() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|number| Delivery {
            event: Uuid::from_u128(number),
            route: Route::Steady,
        });
        let mut attempts = Attempts::default();
        let first = [
            Entry::Sent(a, 1),
            Entry::Recorded(a, 4),
            Entry::Sent(b, 5),
            Entry::Sent(c, 6),
            Entry::Recorded(b, 9),
            Entry::Sent(a, 20),
        ];
        attempts.count(0, &first);
        attempts.count(1, &[Entry::Sent(d, 7), Entry::Recorded(d, 8)]);
        assert_eq!([0, 1, 2].map(|node| attempts.of(node)), [4, 1, 0]);
        assert_eq!(attempts.hit_by(&[]), 0);
        assert_eq!(attempts.hit_by(&[harm(None, 7..=7)]), 3);
        assert_eq!(attempts.hit_by(&[harm(0, 7..=7)]), 2);
        assert_eq!(attempts.hit_by(&[harm(1, 7..=7)]), 1);
        // What was never recorded is hit by the first of two, and counts once.
        let twice = [harm(None, 7..=7), harm(None, 10..=10)];
        assert_eq!(attempts.hit_by(&twice), 3);
        // What began and was recorded meanwhile is no worse for it.
        assert_eq!(attempts.hit_by(&[harm(None, 2..=30)]), 3);
    }
}
