//! Lanes of one pace, which share their slots by turns: of their tenants, and within a tenant of its lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use hashbrown::HashMap;
use uuid::Uuid;

use super::{FIRST_CAP, Lane, Rooms};
use crate::tenant::Tenant;

#[derive(Debug, Default)]
pub(super) struct Crowd {
    tenants: BTreeMap<Tenant, Ring>,
    /// How many jobs of its lanes are under way.
    pub(super) in_flight: usize,
    /// After this tenant it is the next one's turn.
    turn: Option<Tenant>,
}

/// The lanes of a tenant.
#[derive(Debug, Default)]
struct Ring {
    lanes: BTreeSet<Uuid>,
    /// After this lane it is the next one's turn.
    turn: Uuid,
}

impl Crowd {
    pub(super) fn insert(&mut self, tenant: &Tenant, lane: Uuid) {
        let ring = self.tenants.entry(tenant.clone()).or_default();
        ring.lanes.insert(lane);
    }

    pub(super) fn remove(&mut self, tenant: &Tenant, lane: Uuid) {
        if let Some(ring) = self.tenants.get_mut(tenant) {
            ring.lanes.remove(&lane);
            if ring.lanes.is_empty() {
                self.tenants.remove(tenant);
            }
        }
    }

    pub(super) fn retain(&mut self, is_known: impl Fn(Uuid) -> bool) {
        self.tenants.retain(|_, ring| {
            ring.lanes.retain(|lane| is_known(*lane));
            !ring.lanes.is_empty()
        });
    }

    pub(super) fn len(&self) -> usize {
        self.tenants.values().map(|ring| ring.lanes.len()).sum()
    }

    /// Gives so many slots to its lanes, beginning with the one whose turn it is, and answers how many it gave. Whether a
    /// lane has jobs at all is not known here: one without any under way is offered what an unknown one is, so that
    /// those that have nothing leave enough to the others. Where there is enough for all, it need not be told.
    pub(super) fn share(
        &mut self,
        slots: usize,
        known: &HashMap<Uuid, Lane>,
        rooms: &mut Rooms,
    ) -> usize {
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let is_enough = slots as usize >= self.len();
        let (mut left, mut others_wait) = (slots, false);
        let mut had_a_turn = Vec::new();
        for (tenant, id) in self.in_turn() {
            let Some(lane) = known.get(&id) else {
                continue;
            };
            let is_idle = lane.in_flight == 0;
            let wanted = if is_idle { FIRST_CAP } else { lane.room() };
            let room = wanted.min(left);
            others_wait |= room == 0 && wanted > 0;
            left -= room;
            if room > 0 {
                had_a_turn.push((tenant.clone(), id));
            }
            if !(is_idle && is_enough) {
                rooms.rooms.push((id, room));
            }
        }
        rooms.others_wait |= others_wait && !had_a_turn.is_empty();
        self.end_turns(had_a_turn);
        (slots - left) as usize
    }

    /// The next lane of each tenant, then the one after that of each, and so on.
    fn in_turn(&self) -> Vec<(&Tenant, Uuid)> {
        let turn = self.turn.as_ref();
        let later = turn.map(|turn| self.tenants.range::<Tenant, _>((Excluded(turn), Unbounded)));
        let earlier = match turn {
            Some(turn) => self.tenants.range(..=turn),
            None => self.tenants.range::<Tenant, _>(..),
        };
        let tenants = later.into_iter().flatten().chain(earlier);
        let mut rings: Vec<_> = tenants
            .map(|(tenant, ring)| (tenant, ring.in_turn()))
            .collect();
        let mut order = Vec::with_capacity(self.len());
        while !rings.is_empty() {
            rings.retain_mut(|(tenant, ring)| {
                let next = ring.next();
                order.extend(next.map(|lane| (*tenant, lane)));
                next.is_some()
            });
        }
        order
    }

    fn end_turns(&mut self, had_a_turn: Vec<(Tenant, Uuid)>) {
        for (tenant, lane) in had_a_turn {
            if let Some(ring) = self.tenants.get_mut(&tenant) {
                ring.turn = lane;
            }
            self.turn = Some(tenant);
        }
    }
}

impl Ring {
    fn in_turn(&self) -> impl Iterator<Item = Uuid> {
        let later = self.lanes.range((Excluded(self.turn), Unbounded));
        later.chain(self.lanes.range(..=self.turn)).copied()
    }
}
