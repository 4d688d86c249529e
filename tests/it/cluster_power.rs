//! The power of the leader's disk is cut under load, on file systems of their own: what was acknowledged is on
//! the others, and comes back to it.

use crate::cluster_failover::{Running, failovers, leader_of_first, under_load};
use crate::cluster_site::ClusterSite;
use crate::loop_disk::{Kind, LoopDisk, skipped};
use std::time::{Duration, Instant};

const NODES: usize = 3;
const SETTINGS: &str = "[node]\nshards = 2\nworkers = 1";
const DISK_BYTES: u64 = 1 << 30;
const AFTER: usize = 3 * 100 + 200;

/// Cuts the power of the leader, and starts it on what its disk has kept when others have taken over.
async fn cut(disks: &mut [LoopDisk], cluster: &mut ClusterSite, running: &mut Running) -> Duration {
    let leader = leader_of_first(cluster).await;
    let disk = &mut disks[leader.0 as usize - 1];
    let since = Instant::now();
    tokio::task::block_in_place(|| disk.cut_power());
    let outage = running.take(since, AFTER).await;
    cluster.kill(leader);
    tokio::task::block_in_place(|| disk.power_up());
    cluster.start_again(leader);
    cluster.well().await;
    outage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_power_is_cut_takes_nothing_with_it() {
    let disks = (0..NODES).map(|_| LoopDisk::with_power(Kind::Ext4, DISK_BYTES));
    let mut disks: Vec<LoopDisk> = match disks.collect() {
        Ok(disks) => disks,
        Err(why) => return skipped("a_leader_whose_power_is_cut_takes_nothing_with_it", &why),
    };
    let data: Vec<_> = disks.iter().map(|d| d.path().join("data")).collect();
    let mut cluster = ClusterSite::start_on(&data, 3, "", SETTINGS).await;
    under_load(
        &mut cluster,
        (47, failovers(2)),
        async |cluster, running, _| {
            let outage = cut(&mut disks, cluster, running).await;
            eprintln!("power cut: nothing acknowledged for {outage:?}");
            outage
        },
    )
    .await;
    cluster.kill_all();
}
