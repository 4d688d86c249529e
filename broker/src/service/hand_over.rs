//! A node that is to stop gives the shards that it leads to copies that have everything, so that nobody
//! waits until its silence is noticed.

use super::Service;
use crate::worker::unix_ms;
use flowstone_core::Catalog;
use flowstone_core::catalog::{Appointment, Command, NodeState, ShardCommand};
use flowstone_core::replica::{Member, Report};
use flowstone_wire::{Epoch, ShardId};
use std::sync::Arc;
use std::time::Duration;

/// A stop waits so long for others to lead.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A copy that was heard within this is there.
const HEARD_US: u64 = 500_000;

impl Service {
    /// Has others lead what this node leads, as far as there are others that can at once. Returns when they
    /// do, or after 3 seconds.
    pub(crate) async fn hand_over(self: Arc<Self>) {
        if self.cluster().is_none() {
            return;
        }
        let (catalog, vitals) = (
            self.catalog(),
            self.catalog_store()
                .vitals_heard()
                .await
                .unwrap_or_default(),
        );
        let led = self.all_shards().filter(|shard| self.leads(*shard));
        let commands: Vec<_> = led
            .filter_map(|shard| {
                Some((
                    shard,
                    successor(&catalog, shard, vitals.leaders.get(&shard)?)?,
                ))
            })
            .collect();
        let all = commands.into_iter().map(|(shard, command)| {
            let this = self.clone();
            tokio::spawn(async move { this.hand_over_one(shard, command).await })
        });
        let all = futures_util::future::join_all(all.collect::<Vec<_>>());
        if tokio::time::timeout(TIMEOUT, all).await.is_err() {
            tracing::warn!("not every shard is led by another node yet; they will notice");
        }
    }

    async fn hand_over_one(self: Arc<Self>, shard: ShardId, command: Command) {
        let mut changes = self.catalog_store().watch();
        if let Err(e) = self.clone().command(command).await {
            return tracing::info!(shard = shard.0, "it is not handed over: {e}");
        }
        let me = self.me();
        // An end of the catalog is the end of the node.
        let _ = changes
            .wait_for(|catalog| {
                let placed = catalog.placed(shard);
                placed.is_none_or(|p| p.is_active() && p.config.leader.node != me)
            })
            .await;
    }
}

/// The next epoch of a shard, led by a member that has nearly everything and is there.
fn successor(catalog: &Catalog, shard: ShardId, report: &Report) -> Option<Command> {
    let config = &catalog.placed(shard)?.config;
    let stays = |m: &Member| {
        let node = catalog.node(m.node);
        node.is_some_and(|n| n.state == NodeState::Active)
    };
    let near = report.followers.iter().filter(|f| {
        config.members.contains(&f.member) && f.heard_us_ago < HEARD_US && stays(&f.member)
    });
    let next = near.min_by_key(|f| f.lag_bytes)?.member;
    Some(Command::Shard(ShardCommand::Appoint(Appointment {
        shard,
        basis: config.version,
        above: Epoch(0),
        leader: next,
        members: config.members.clone(),
        learners: config.learners.clone(),
        now_ms: u64::try_from(unix_ms()).unwrap_or(0),
    })))
}
