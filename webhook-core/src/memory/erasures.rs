//! Tenants that are being erased from a [`MemoryStore`](super::MemoryStore).

use std::collections::HashSet;

use uuid::Uuid;

use super::state::State;
use crate::backend::last_id;
use crate::erasure::ErasureStep;
use crate::tenant::{Scope, Tenant};
use crate::time::Timestamp;

#[derive(Clone, Debug)]
pub(super) struct Erasure {
    /// What has an id up to this goes.
    up_to: Uuid,
    /// But for these, which came later: their ids are of another clock.
    spared: HashSet<Uuid>,
    requested_at: Timestamp,
    next_at: Timestamp,
}

impl State {
    pub(super) fn erase_tenant(&mut self, tenant: &Tenant, now: Timestamp) {
        let of_tenant = |owner: &Tenant| owner == tenant;
        let endpoints = self.endpoints.values();
        let endpoints = endpoints.filter(|endpoint| of_tenant(&endpoint.tenant));
        let endpoints: Vec<_> = endpoints.map(|endpoint| endpoint.id).collect();
        for endpoint in endpoints {
            self.delete_endpoint(&Scope::All, endpoint, now);
        }
        self.replays
            .retain(|_, row| row.tenant().is_none_or(|owner| !of_tenant(owner)));
        let events = self.events.iter().rev();
        let mut events = events.filter(|(_, row)| of_tenant(&row.event.tenant));
        let last = events.next();
        // Those of its deliveries, too.
        let last = last.map(|(id, row)| last_id(row.event.created_at).max(*id));
        let erasure = Erasure {
            up_to: last.unwrap_or_default().max(last_id(now)),
            spared: HashSet::new(),
            requested_at: now,
            next_at: now,
        };
        self.erasures.insert(tenant.clone(), erasure);
    }

    pub(super) fn step_erasure(&mut self, limit: usize, now: Timestamp) -> ErasureStep {
        let mut step = ErasureStep::default();
        let due = self.next_erasure().filter(|(_, it)| it.next_at <= now);
        if let Some((tenant, mut erasure)) = due.map(|(tenant, it)| (tenant.clone(), it.clone())) {
            step.erased = self.forget_events(&tenant, limit)
                + self.forget_keys(&tenant, limit)
                + self.forget_stats(&tenant, erasure.requested_at);
            let last_look = erasure.requested_at + ErasureStep::LINGER;
            if step.erased == 0 && last_look <= now {
                self.erasures.remove(&tenant);
                step.ended = Some(tenant);
            } else {
                erasure.next_at = if step.erased == 0 { last_look } else { now };
                self.erasures.insert(tenant, erasure);
            }
        }
        step.next_in = self.next_erasure().map(|(_, it)| it.next_at.since(now));
        step
    }

    /// Whether an event is to go with its tenant, or has gone.
    pub(super) fn is_erased(&self, tenant: &Tenant, event: Uuid) -> bool {
        let erasure = self.erasures.get(tenant);
        erasure.is_some_and(|it| event <= it.up_to && !it.spared.contains(&event))
    }

    /// Lets an event stay that comes now, whatever its id.
    pub(super) fn spare(&mut self, tenant: &Tenant, event: Uuid) {
        if let Some(erasure) = self.erasures.get_mut(tenant).filter(|it| event <= it.up_to) {
            erasure.spared.insert(event);
        }
    }

    /// The one that has been due the longest, or will be due first.
    fn next_erasure(&self) -> Option<(&Tenant, &Erasure)> {
        let all = self.erasures.iter();
        all.min_by_key(|(tenant, erasure)| (erasure.next_at, (*tenant).clone()))
    }

    fn forget_stats(&mut self, tenant: &Tenant, until: Timestamp) -> u64 {
        let before = self.stats.len();
        self.stats
            .retain(|row| row.tenant != *tenant || row.at > until);
        (before - self.stats.len()) as u64
    }
}
