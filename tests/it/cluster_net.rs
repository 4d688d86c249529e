//! Links that fail, in network namespaces, under load: leaders that are cut off, that cannot be heard or cannot
//! hear, links that come and go, and links that are slow. They take nothing with them, acknowledge nothing
//! that is lost, and come back as followers.

use crate::cluster_failover::{Running, failovers, leader_of_first, under_load};
use crate::cluster_site::ClusterSite;
use crate::netns::Net;
use std::time::{Duration, Instant};
use tokio::time::interval;

const NODES: u8 = 3;
const SETTINGS: &str = "[node]\nshards = 2\nworkers = 1\nallow_remote = true";
/// More than was under way: it was acknowledged after the fault began.
const AFTER: usize = 3 * 100 + 200;
/// A link that flaps does so this often.
const FLAP: Duration = Duration::from_millis(300);
const FLAPS: usize = 12;

const WAYS: [&str; 5] = ["cut off", "not heard", "deaf", "flapping", "slow"];

/// One fault of the leader's links, mended when others have taken over. Returns how long nothing was
/// acknowledged.
async fn fault(net: &Net, cluster: &ClusterSite, running: &mut Running, way: &str) -> Duration {
    let leader = leader_of_first(cluster).await;
    let place = leader.0 as u8 - 1;
    let others = || (0..NODES).filter(move |n| *n != place);
    let since = Instant::now();
    match way {
        "cut off" => net.cut(place),
        "not heard" => others().for_each(|to| net.cut_one_way(place, to)),
        "deaf" => others().for_each(|from| net.cut_one_way(from, place)),
        "flapping" => flap(net, place).await,
        _ => {
            if let Err(why) = net.slow_down(place) {
                eprintln!("SKIPPED: no slow links here: {why}");
                return Duration::ZERO;
            }
        }
    }
    if matches!(way, "cut off" | "not heard" | "deaf") {
        cluster
            .until("another one leads", |s| {
                s.shards[0].is_active && s.shards[0].leader != leader
            })
            .await;
    }
    let outage = running.take(since, AFTER).await;
    match way {
        "cut off" => net.mend(place),
        "not heard" => others().for_each(|to| net.mend_one_way(place, to)),
        "deaf" => others().for_each(|from| net.mend_one_way(from, place)),
        "flapping" => {}
        _ => net.speed_up(place),
    }
    cluster.well().await;
    outage
}

async fn flap(net: &Net, place: u8) {
    let mut turn = interval(FLAP);
    for _ in 0..FLAPS {
        turn.tick().await;
        net.cut(place);
        turn.tick().await;
        net.mend(place);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_whose_links_fail_take_nothing_with_them() {
    let net = match Net::new(NODES) {
        Ok(net) => net,
        Err(why) => {
            return eprintln!(
                "SKIPPED: no network namespaces here, links that fail were not tested: {why}"
            );
        }
    };
    let places = (0..NODES).map(|n| Some(net.place(n))).collect();
    let mut cluster = ClusterSite::start_at(places, 3, "", SETTINGS).await;
    under_load(
        &mut cluster,
        (43, failovers(WAYS.len() as u64)),
        async |cluster, running, round| {
            let way = WAYS[round as usize % WAYS.len()];
            let outage = fault(&net, cluster, running, way).await;
            eprintln!("{way}: nothing acknowledged for {outage:?}");
            outage
        },
    )
    .await;
}
