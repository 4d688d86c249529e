//! Leaders that are cut off from everybody, in network namespaces, under load: they take nothing with them,
//! acknowledge nothing more, and come back as followers.

use crate::cluster_failover::{Running, failovers, leader_of_first, under_load};
use crate::cluster_site::ClusterSite;
use crate::netns::Net;
use std::time::{Duration, Instant};

const NODES: u8 = 3;
const SETTINGS: &str = "[node]\nshards = 2\nworkers = 1\nallow_remote = true";

/// Cuts the leader off, and mends it when another one has taken over. Returns how long nothing was acknowledged.
async fn cut_off(net: &Net, cluster: &ClusterSite, running: &mut Running) -> Duration {
    let leader = leader_of_first(cluster).await;
    let place = leader.0 as u8 - 1;
    let since = Instant::now();
    net.cut(place);
    let outage = running.take(since, 3 * 100 + 200).await;
    net.mend(place);
    cluster.well().await;
    outage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_are_cut_off_take_nothing_with_them() {
    let net = match Net::new(NODES) {
        Ok(net) => net,
        Err(why) => {
            return eprintln!(
                "SKIPPED: no network namespaces here, cut links were not tested: {why}"
            );
        }
    };
    let places = (0..NODES).map(|n| Some(net.place(n))).collect();
    let mut cluster = ClusterSite::start_at(places, 3, "", SETTINGS).await;
    under_load(
        &mut cluster,
        (43, failovers(3)),
        async |cluster, running, _| {
            let outage = cut_off(&net, cluster, running).await;
            eprintln!("cut off: nothing acknowledged for {outage:?}");
            outage
        },
    )
    .await;
}
