//! Seals stored secrets anew, with the current key.

use super::Dispatcher;
use crate::error::Result;
use crate::store::{Rekeyed, Store};
use crate::tenant::PageRequest;

/// Endpoints that are sealed anew by one call of the store.
const PAGE: usize = 100;
/// How many times it looks again at what others changed meanwhile.
const ROUNDS: usize = 8;

impl<S: Store + ?Sized> Dispatcher<S> {
    /// Seals the secrets of all endpoints anew that are not under the store's current key: after a key was changed,
    /// or when there are keys for the first time. Returns how many were; then an older key may go, if nothing is
    /// left [`changed`](Rekeyed::changed) or [`unopened`](Rekeyed::unopened).
    ///
    /// May run while everything else does, and be repeated after an error: it goes on with what is left.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rekey(&self) -> Result<Rekeyed> {
        let mut total = Rekeyed::default();
        for _ in 0..ROUNDS {
            let round = self.rekey_once().await?;
            total.rekeyed += round.rekeyed;
            (total.changed, total.unopened) = (round.changed, round.unopened);
            if round.changed == 0 {
                break;
            }
        }
        Ok(total)
    }

    async fn rekey_once(&self) -> Result<Rekeyed> {
        let (mut round, mut page) = (Rekeyed::default(), PageRequest::first(PAGE));
        loop {
            let done = self.engine.store.rekey(page).await?;
            round.rekeyed += done.rekeyed;
            round.changed += done.changed;
            round.unopened += done.unopened;
            page.before = done.next;
            if done.next.is_none() {
                return Ok(round);
            }
        }
    }
}
