//! A process: its shards, which end together, and what is under way between them.

use crate::carry::Carrier;
use crate::host::Host;
use crate::planted::Plant;
use crate::rng::Rng;
use crate::world::World;
use flowstone_storage::{Error, SimDisk};
use flowstone_wire::ShardId;

/// Numbers of the parts that have their own chance; those of a process are behind all others.
const FIRST_OF_PROCESS: u64 = 1 << 20;

pub(crate) struct Node {
    hosts: Vec<Host>,
    pub(crate) carrier: Carrier,
}

impl Node {
    /// Starts a process on what the disk has, as the broker does. Also gives the rows that recovery
    /// has used, shard by shard.
    pub(crate) fn start(
        disk: &SimDisk,
        world: &World,
        plant: Option<Plant>,
        (seed, life): (u64, u64),
    ) -> Result<(Self, String), Error> {
        let chance = |number| Rng::of_part(seed, FIRST_OF_PROCESS + (life << 8) + number);
        let (mut hosts, mut rows) = (Vec::new(), Vec::new());
        for shard in world.all_shards() {
            let rng = chance(u64::from(shard.0) + 1);
            let (host, found) = Host::start(disk, shard, world, plant, rng)?;
            hosts.push(host);
            rows.push(found);
        }
        let carrier = Carrier::new(chance(0));
        Ok((Self { hosts, carrier }, rows.join(" ")))
    }

    pub(crate) fn host(&mut self, shard: ShardId) -> &mut Host {
        &mut self.hosts[usize::from(shard.0)]
    }

    pub(crate) fn any_fenced(&self) -> bool {
        self.hosts.iter().any(|h| h.shard.fenced().is_some())
    }

    /// Batches for other shards that the state stores hold.
    pub(crate) fn stored_parcels(&self) -> Result<usize, Error> {
        self.hosts.iter().map(Host::stored_parcels).sum()
    }

    pub(crate) fn all_drained(&self) -> bool {
        self.hosts.iter().all(|h| h.drained)
    }

    /// Which shard wants the next tick, and when. A deadline that stays in the past is served as a
    /// real driver does: again and again, but not without a pause.
    pub(crate) fn next_tick(&self, pause_us: u64) -> Option<(u64, ShardId)> {
        let due = |host: &Host| {
            let deadline = host.shard.deadline()?;
            Some((deadline.max(host.ticked_us + pause_us), host.shard.id()))
        };
        self.hosts.iter().filter_map(due).min()
    }
}
