//! Leaders that are cut off from everybody, in network namespaces, under load: they take nothing with them,
//! acknowledge nothing more, and come back as followers.

use crate::cluster_failover::{PARTITIONS, Running, TOPIC, failovers, leader_of_first, tell};
use crate::cluster_site::ClusterSite;
use crate::dice::Dice;
use crate::netns::Net;
use flowstone_client::TopicSettings;
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
    let cluster = ClusterSite::start_at(places, 3, "", SETTINGS).await;
    let client = cluster.client().await;
    let settings = TopicSettings::default();
    client
        .create_topic(TOPIC, PARTITIONS, settings)
        .await
        .unwrap();
    let mut dice = Dice::new(43);
    let mut running = Running::start(&client, &mut dice).await;
    let mut outages = Vec::new();
    for _ in 0..failovers(3) {
        let count = dice.below(1500) as usize + 100;
        running.take(Instant::now(), count).await;
        let outage = cut_off(&net, &cluster, &mut running).await;
        eprintln!("cut off: nothing acknowledged for {outage:?}");
        outages.push(outage);
    }
    let count = running.finish(&cluster).await;
    tell(count, outages);
}
