//! Fills the parts of an index queue that have lost their jobs: one process does so, at a pace.
//!
//! The store remembers the generation of each part that was filled. If a process finds a part with another generation, it writes
//! to the store that it fills this part, and how far it has come. The version of that row lets only one process do so. The other
//! processes watch its progress, and one of them takes over if there is none. This also works if the queue was empty, or was an
//! older one, before any process started.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use hashbrown::HashMap;
use uuid::Uuid;

use super::Engine;
use super::sweep::{PAGE, TICK};
use crate::error::Result;
use crate::queue::{Job, QueuePart};
use crate::store::Fill;
use crate::time::Timestamp;

/// The most pages that a tick pushes: 20,000 deliveries a second.
const PAGES: usize = 20;
/// How long another process may make no progress before this one goes on in its place.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sweeper knows of the queue's parts.
#[derive(Default)]
pub(super) struct Refills {
    /// The store's entry of each part that was not known to be filled.
    seen: HashMap<String, Seen>,
    pass: Option<Pass>,
}

struct Seen {
    fill: Fill,
    /// Since when the entry has this version.
    since: Timestamp,
}

/// One pass through the store, for all parts that had lost something when it began. Parts that lose something meanwhile wait for
/// the next pass. So a part that comes and goes does not delay the others.
struct Pass {
    up_to: Option<Uuid>,
    /// The store's entries of these parts, by their places.
    parts: BTreeMap<usize, Fill>,
    pushed: usize,
    is_at_end: bool,
}

impl Refills {
    /// The places and generations of the parts that are not known to be filled.
    fn lost(&self, parts: &[QueuePart]) -> Vec<(usize, i64)> {
        let is_filled = |name: &str, generation| {
            let seen = self.seen.get(name).map(|seen| &seen.fill);
            seen.is_some_and(|fill| fill.is_complete && fill.generation == generation)
        };
        let answering = parts.iter().enumerate();
        answering
            .filter_map(|(place, part)| Some((place, part.generation?)))
            .filter(|(place, generation)| !is_filled(&parts[*place].name, *generation))
            .collect()
    }

    /// The entries to write to begin filling the parts that have lost something, by their places. Leaves out parts that
    /// another process fills.
    fn next_fills(
        &mut self,
        parts: &[QueuePart],
        known: Vec<Fill>,
        now: Timestamp,
    ) -> BTreeMap<usize, Fill> {
        let mut known: HashMap<String, Fill> = known
            .into_iter()
            .map(|fill| (fill.part.clone(), fill))
            .collect();
        let mut next = BTreeMap::new();
        for (place, generation) in self.lost(parts) {
            let name = &parts[place].name;
            let fill = match known.remove(name) {
                Some(fill) if fill.generation == generation => self.successor(fill, now),
                known => Some(Fill {
                    part: name.clone(),
                    version: known.map_or(1, |fill| fill.version + 1),
                    generation,
                    up_to: None,
                    is_complete: false,
                }),
            };
            next.extend(fill.map(|fill| (place, fill)));
        }
        next
    }

    /// The entry that takes over a fill without progress. If there is progress, remembers it.
    fn successor(&mut self, fill: Fill, now: Timestamp) -> Option<Fill> {
        let seen = self.seen.get(&fill.part);
        let seen = seen.filter(|seen| seen.fill.version == fill.version);
        let since = seen.map_or(now, |seen| seen.since);
        let is_abandoned = !fill.is_complete && now.since(since) >= PATIENCE;
        let successor = is_abandoned.then(|| Fill {
            version: fill.version + 1,
            ..fill.clone()
        });
        self.seen.insert(fill.part.clone(), Seen { fill, since });
        successor
    }

    /// Begins a pass for those fills that the store has taken.
    fn begin(&mut self, mut fills: BTreeMap<usize, Fill>, stored: &[String]) {
        fills.retain(|_, fill| stored.contains(&fill.part));
        let Some(up_to) = fills.values().map(|fill| fill.up_to).min() else {
            return;
        };
        tracing::warn!(
            parts = fills.len(),
            "parts of the queue are new or have lost their jobs; pushing them again"
        );
        self.pass = Some(Pass {
            up_to,
            parts: fills,
            pushed: 0,
            is_at_end: false,
        });
    }

    /// Leaves out of the pass the parts that have another generation by now, or are away.
    fn drop_changed(&mut self, parts: &[QueuePart]) {
        let is_as_before = |place: usize, fill: &Fill| {
            let part = parts.get(place);
            part.is_some_and(|part| part.generation == Some(fill.generation))
        };
        let pass = self.pass.iter();
        let places = pass.flat_map(|pass| pass.parts.iter());
        let changed: Vec<_> = places
            .filter(|(place, fill)| !is_as_before(**place, fill))
            .map(|(place, _)| *place)
            .collect();
        self.give_up(&changed);
    }

    /// Leaves parts out of the pass. The next one begins with them, where this one was last known to be.
    fn give_up(&mut self, places: &[usize]) {
        let Some(pass) = &mut self.pass else {
            return;
        };
        for place in places {
            if let Some(fill) = pass.parts.remove(place) {
                let since = Timestamp::EPOCH;
                self.seen.insert(fill.part.clone(), Seen { fill, since });
            }
        }
        if pass.parts.is_empty() {
            self.pass = None;
        }
    }

    /// Takes in that a page was pushed, but not to these places.
    fn has_pushed(&mut self, page: &[Job], failed: &[usize]) {
        if let Some(pass) = &mut self.pass {
            pass.up_to = page.last().map(|job| job.delivery).or(pass.up_to);
            pass.is_at_end = page.len() < PAGE;
            pass.pushed += page.len();
        }
        self.give_up(failed);
    }

    /// The entries to write about the pass.
    fn progress(&self) -> Vec<Fill> {
        let parts = self.pass.iter().flat_map(|pass| {
            let progress = |fill: &Fill| Fill {
                version: fill.version + 1,
                up_to: pass.up_to.filter(|_| !pass.is_at_end),
                is_complete: pass.is_at_end,
                ..fill.clone()
            };
            pass.parts.values().map(progress)
        });
        parts.collect()
    }

    /// Notes which entries were written. Parts whose entry was not are filled by another process now.
    fn has_written(&mut self, progress: Vec<Fill>, stored: &[String], now: Timestamp) {
        let Some(mut pass) = self.pass.take() else {
            return;
        };
        let mut progress: HashMap<String, Fill> = progress
            .into_iter()
            .filter(|fill| stored.contains(&fill.part))
            .map(|fill| (fill.part.clone(), fill))
            .collect();
        let places = std::mem::take(&mut pass.parts).into_iter();
        pass.parts = places
            .filter_map(|(place, fill)| Some((place, progress.remove(&fill.part)?)))
            .collect();
        if pass.is_at_end {
            tracing::info!(looked_at = pass.pushed, "the queue has its jobs again");
            let seen = pass.parts.into_values();
            let seen = seen.map(|fill| (fill.part.clone(), Seen { fill, since: now }));
            self.seen.extend(seen);
        } else if !pass.parts.is_empty() {
            self.pass = Some(pass);
        }
    }
}

impl Engine {
    /// Fills, for one tick, what the queue has lost. Returns whether there is more to do that no other process does.
    pub(super) async fn refill(&self) -> Result<bool> {
        let parts = self.queue.parts().await?;
        self.refills().drop_changed(&parts);
        self.begin_pass(&parts).await?;
        let began = self.clock.now();
        for _ in 0..PAGES {
            if !self.refill_page().await? || self.clock.now().since(began) >= TICK {
                break;
            }
            self.push_expected().await?;
        }
        let progress = self.refills().progress();
        if !progress.is_empty() {
            let stored = self.store.put_fills(&progress).await?;
            let now = self.clock.now();
            self.refills().has_written(progress, &stored, now);
        }
        Ok(self.refills().pass.is_some())
    }

    async fn begin_pass(&self, parts: &[QueuePart]) -> Result<()> {
        {
            let refills = self.refills();
            if refills.pass.is_some() || refills.lost(parts).is_empty() {
                return Ok(());
            }
        }
        let known = self.store.fills().await?;
        let fills = self.refills().next_fills(parts, known, self.clock.now());
        if fills.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = fills.values().cloned().collect();
        let stored = self.store.put_fills(&rows).await?;
        self.refills().begin(fills, &stored);
        Ok(())
    }

    /// Pushes the next page of the pass to its parts, and returns whether there are more pages. Leaves out a part that fails,
    /// so that the others need not wait.
    async fn refill_page(&self) -> Result<bool> {
        let Some((up_to, places)) = self.refills().pass.as_ref().and_then(|pass| {
            let places: Vec<_> = pass.parts.keys().copied().collect();
            (!pass.is_at_end).then_some((pass.up_to, places))
        }) else {
            return Ok(false);
        };
        let page = self.store.unqueued(up_to, PAGE).await?;
        let mut by_part: BTreeMap<usize, Vec<Job>> = BTreeMap::new();
        for job in &page {
            let part = self.queue.part_of(job.lane);
            by_part.entry(part).or_default().push(job.clone());
        }
        by_part.retain(|part, _| places.contains(part));
        let pushes = by_part.iter().map(async |(part, jobs)| {
            let pushed = self.queue.push(jobs, self.clock.pinned()).await;
            let repaired = pushed.as_ref().map_or(0, |()| jobs.len());
            self.meter.repaired("lost", repaired);
            pushed.err().map(|error| {
                tracing::warn!(%error, part, "a part of the queue cannot be filled yet");
                *part
            })
        });
        let failed: Vec<_> = join_all(pushes).await.into_iter().flatten().collect();
        let mut refills = self.refills();
        refills.has_pushed(&page, &failed);
        Ok(refills.pass.as_ref().is_some_and(|pass| !pass.is_at_end))
    }

    fn refills(&self) -> MutexGuard<'_, Refills> {
        let refills = &self.sweeper.refills;
        refills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
