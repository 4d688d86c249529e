//! Networks that cut, lose, delay, reorder and double; nodes that dial at once, stop and come back.

use crate::proxy::Proxy;
use crate::rig::{Cluster, Node, SOON, append, lsn_of, pattern, word};
use flowstone_peer::{PeerEndpoint, Sent};
use flowstone_wire::NodeId;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Two nodes with a bad network between them. Only the first one dials.
fn apart(cluster: &Cluster) -> (Node, Proxy, Node) {
    let (one, two) = (cluster.node(1), cluster.node(2));
    let proxy = Proxy::before(two.address());
    one.knows(2, proxy.address);
    one.up(2);
    two.sees(1, true);
    one.sees(2, true);
    (one, proxy, two)
}

#[test]
fn a_cut_is_noticed_in_about_a_second_and_mended_by_itself() {
    let cluster = Cluster::new(1);
    for (there, back) in [(true, true), (true, false), (false, true)] {
        let (one, proxy, two) = apart(&cluster);
        one.reaches(&two, 1, 2);
        let start = Instant::now();
        proxy.cut(there, back);
        one.sees(2, false);
        two.sees(1, false);
        let noticed = start.elapsed();
        println!("cut there {there}, back {back}: both sides know after {noticed:?}");
        // The bound is wide: machines that run tests are busy.
        assert!(noticed < Duration::from_secs(5), "{noticed:?}");
        let send = || one.endpoint.send(NodeId(2), word(1, 2, 1), Vec::new());
        assert_eq!(send(), Sent::Unreachable);
        proxy.cut(false, false);
        one.sees(2, true);
        one.reaches(&two, 1, 2);
    }
}

#[test]
fn everything_gets_through_a_bad_network_in_order() {
    let cluster = Cluster::new(1);
    let (one, proxy, two) = apart(&cluster);
    proxy.faults.lost.store(20, SeqCst);
    proxy.faults.doubled.store(50, SeqCst);
    proxy.faults.delay_ms.store(8, SeqCst);
    let (mut next, mut sent) = (0, 0);
    while next < 200 {
        if sent < 200 {
            let body = pattern(sent, 20_000);
            let message = append(1, 2, 0, sent, body.len());
            let queued = one.endpoint.send(NodeId(2), message, vec![body]);
            sent += u64::from(queued == Sent::Queued);
        }
        if sent < 200 && sent - next < 50 {
            continue;
        }
        let came = two.next();
        assert_eq!(lsn_of(&came), next, "in order");
        assert!(came.body == pattern(next, 20_000), "whole");
        next += 1;
    }
    let counts = one.endpoint.status(NodeId(2)).unwrap().counts;
    assert_eq!(counts.connections, 1, "a bad network is not a dead peer");
}

#[test]
fn of_two_that_dial_at_once_one_connection_stays() {
    let cluster = Cluster::new(1);
    for round in 0..20 {
        let (one, two) = (cluster.node(1), cluster.node(2));
        std::thread::scope(|s| {
            let (a, b) = (&one.endpoint, &two.endpoint);
            let dial = |from: &PeerEndpoint, to: u32, at| {
                from.set_peer(NodeId(to), vec![at]).unwrap();
            };
            s.spawn(move || dial(a, 2, b.local_addr()));
            s.spawn(move || dial(b, 1, a.local_addr()));
        });
        one.reaches(&two, 1, 2);
        two.reaches(&one, 2, 1);
        let connections = one.endpoint.status(NodeId(2)).unwrap().counts.connections;
        let theirs = two.endpoint.status(NodeId(1)).unwrap().counts.connections;
        assert_eq!((connections, theirs), (1, 1), "round {round}");
    }
}

#[test]
fn three_nodes_find_one_another_through_delays() {
    let cluster = Cluster::new(1);
    let nodes: Vec<Node> = (1..=3).map(|n| cluster.node(n)).collect();
    let mut proxies = Vec::new();
    for (from, node) in nodes.iter().enumerate() {
        for (to, other) in nodes.iter().enumerate().filter(|(to, _)| *to != from) {
            let proxy = Proxy::before(other.address());
            proxy.faults.delay_ms.store(20, SeqCst);
            proxy.faults.lost.store(50, SeqCst);
            node.knows(to as u32 + 1, proxy.address);
            proxies.push(proxy);
        }
    }
    for (from, node) in nodes.iter().enumerate() {
        for (to, other) in nodes.iter().enumerate().filter(|(to, _)| *to != from) {
            node.reaches(other, from as u32 + 1, to as u32 + 1);
        }
    }
}

#[test]
fn a_node_that_is_restarted_is_known_at_once() {
    let cluster = Cluster::new(1);
    let (one, mut two) = cluster.pair();
    let address = two.address();
    for _ in 0..10 {
        one.reaches(&two, 1, 2);
        drop(two);
        two = cluster.node_with(2, |o| o.listen = address);
        two.knows(1, one.address());
        two.up(1);
        two.reaches(&one, 2, 1);
    }
}

#[test]
fn a_peer_that_dies_without_a_word_is_taken_back_in_its_next_life() {
    let cluster = Cluster::new(1);
    let (one, proxy, two) = apart(&cluster);
    // Its last words are lost.
    proxy.cut(true, true);
    drop(two);
    let two = cluster.node(2);
    let way = Proxy::before(one.address());
    let start = Instant::now();
    two.knows(1, way.address);
    two.up(1);
    two.reaches(&one, 2, 1);
    assert!(start.elapsed() < SOON);
}

#[test]
fn a_dead_address_does_not_keep_the_other_side_out() {
    let cluster = Cluster::new(1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    let nowhere = Proxy::before(two.address());
    nowhere.cut(true, true);
    one.knows(2, nowhere.address);
    two.knows(1, one.address());
    two.up(1);
    two.reaches(&one, 2, 1);
    one.reaches(&two, 1, 2);
}
