//! Which node led each shard before, and how long nobody did: for people, nothing is decided by it.

use super::{Catalog, Controller, Now, Placed, View};
use crate::replica::{Member, Phase};
use flowstone_wire::ShardId;
use flowstone_wire::native::{LeaderMove, MoveCause};

/// A move, and when it began on the controller's clock.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    told: LeaderMove,
    begun_us: u64,
}

impl Controller {
    /// The last time that another node came to lead a shard, as far as this controller has seen.
    pub fn last_move(&self, shard: ShardId) -> Option<&LeaderMove> {
        self.moves.get(&shard).map(|m| &m.told)
    }

    /// Notes that a shard that was led by `old` has this place now.
    pub(super) fn note_move(
        &mut self,
        catalog: &Catalog,
        shard: ShardId,
        old: Member,
        placed: &Placed,
        now: Now,
    ) {
        let config = &placed.config;
        if old.node != config.leader.node {
            let pending = self.moves.remove(&shard);
            let pending = pending.filter(|m| m.told.took_ms.is_none());
            let mut moving = pending.unwrap_or_else(|| self.begin_move(catalog, shard, old, now));
            moving.told.to = config.leader.node;
            moving.told.at_ms = now.unix_ms;
            self.moves.insert(shard, moving);
        }
        let Some(moving) = self.moves.get_mut(&shard) else {
            return;
        };
        if placed.is_active() && moving.told.took_ms.is_none() {
            moving.told.epoch = config.epoch;
            moving.told.at_ms = now.unix_ms;
            moving.told.took_ms = Some(now.us.saturating_sub(moving.begun_us) / 1000);
        }
    }

    /// A leader that was silent is gone since it was heard last; others lead until another one is appointed.
    fn begin_move(&self, catalog: &Catalog, shard: ShardId, old: Member, now: Now) -> Moving {
        let view = View {
            controller: self,
            catalog,
            now,
        };
        let told = self.reports.get(&(shard, old.node));
        let is_stopped = told.is_some_and(|(_, report)| report.phase == Phase::Stopped);
        let (cause, begun_us) = if !view.is_current(shard, old) {
            (MoveCause::LostData, now.us)
        } else if is_stopped {
            (MoveCause::DiskFailed, now.us)
        } else if view.report(shard, old).is_none() {
            let heard_us = told.map_or(self.born_us, |(at_us, _)| *at_us);
            (MoveCause::Silent, heard_us)
        } else {
            (MoveCause::HandedOver, now.us)
        };
        let told = LeaderMove {
            from: old.node,
            to: old.node,
            epoch: flowstone_wire::Epoch(0),
            cause,
            at_ms: now.unix_ms,
            took_ms: None,
        };
        Moving { told, begun_us }
    }
}
