//! Who is not let in, and what either side is told.

use crate::rig::{Cluster, NOW_S, SOON, credentials};
use flowstone_peer::identity::{Term, Trust};
use flowstone_peer::{PeerEndpoint, PeerError, StartError};
use flowstone_wire::NodeId;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Waits until a try to reach a node has failed, and gives its reason.
fn reason(endpoint: &PeerEndpoint, node: u32) -> String {
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        let status = endpoint.status(NodeId(node)).unwrap();
        assert!(!status.is_up, "it was let in");
        if let Some(why) = status.last_error {
            return why;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("no try was made");
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(2));
    let (one, two) = (ours.node(1), theirs.node(2));
    one.knows(2, two.address());
    let why = reason(&one.endpoint, 2);
    assert!(
        why.contains("is of cluster 0202") && why.contains("belongs to 0101"),
        "{why}"
    );
}

#[test]
fn another_node_than_the_one_that_was_dialled_is_refused() {
    let cluster = Cluster::new(1);
    let (one, three) = (cluster.node(1), cluster.node(3));
    one.knows(2, three.address());
    let why = reason(&one.endpoint, 2);
    assert!(why.contains("is of node 3, node 2 was dialled"), "{why}");
}

#[test]
fn an_authority_that_nobody_trusts_is_refused_by_either_side() {
    let (ours, same_id) = (Cluster::new(1), Cluster::new(1));
    let (one, two) = (ours.node(1), same_id.node(2));
    one.knows(2, two.address());
    let why = reason(&one.endpoint, 2);
    assert!(why.contains("does not trust"), "{why}");
    // One that would believe the other, but is not believed.
    let naive = same_id.node_with(4, |o| {
        let trust = Trust::only(ours.authority.trusted()).and(same_id.authority.trusted());
        o.credentials = credentials(&same_id.authority, 4, trust);
    });
    naive.knows(1, one.address());
    let why = reason(&naive.endpoint, 1);
    assert!(
        why.contains("the peer does not trust the authority"),
        "{why}"
    );
}

#[test]
fn expired_and_early_certificates_are_refused_with_the_reason() {
    let cluster = Cluster::new(1);
    let one = cluster.node(1);
    let short = |node: u32, begins_s: u64| {
        let mut own = cluster.credentials(node);
        let (now_s, life_s) = (begins_s, 10_000);
        let term = Term { now_s, life_s };
        let issued = cluster
            .authority
            .issue(NodeId(node), &own.key.public(), term);
        own.issued = issued.unwrap();
        own
    };
    let two = cluster.node_with(2, |o| o.credentials = short(2, NOW_S));
    let three = cluster.node_with(3, |o| {
        o.credentials = short(3, NOW_S + 100_000);
        o.clock = flowstone_peer::Clock::new(|| NOW_S + 100_000);
    });
    cluster.now_s.store(NOW_S + 20_000, Ordering::SeqCst);
    one.knows(2, two.address());
    one.knows(3, three.address());
    let why = reason(&one.endpoint, 2);
    assert!(why.contains("expired 10000 s ago"), "{why}");
    let why = reason(&one.endpoint, 3);
    assert!(why.contains("begins in 76400 s"), "{why}");
    // The other way round: who is refused learns it as well.
    two.knows(1, one.address());
    let why = reason(&two.endpoint, 1);
    assert!(why.contains("this node's certificate expired"), "{why}");
    let again = cluster.node(4).endpoint.set_credentials(short(4, NOW_S));
    assert!(again.is_err(), "nobody begins with what is over");
}

#[test]
fn a_node_that_has_left_is_closed_out() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    one.endpoint.remove_peer(NodeId(2));
    two.sees(1, true);
    two.sees(1, false);
    let why = reason(&two.endpoint, 1);
    assert!(why.contains("has left the cluster"), "{why}");
    let known = one.endpoint.set_peer(NodeId(2), vec![two.address()]);
    assert!(matches!(known, Err(PeerError::Refused(why)) if why.contains("has left")));
}

#[test]
fn what_a_node_may_not_know_or_bind() {
    let cluster = Cluster::new(1);
    let one = cluster.node(1);
    let own = one.endpoint.set_peer(NodeId(1), vec![one.address()]);
    assert!(matches!(own, Err(PeerError::Refused(_))));
    let many = vec![one.address(); 9];
    let many = one.endpoint.set_peer(NodeId(2), many);
    assert!(matches!(many, Err(PeerError::Refused(_))));
    for node in 10..73 {
        one.endpoint.set_peer(NodeId(node), Vec::new()).unwrap();
    }
    one.endpoint.set_peer(NodeId(73), Vec::new()).unwrap();
    let more = one.endpoint.set_peer(NodeId(74), Vec::new());
    assert!(matches!(more, Err(PeerError::Refused(why)) if why.contains("at most 64")));
    let mut options = flowstone_peer::PeerOptions::new(cluster.credentials(5), 1, one.inbox);
    options.clock = cluster.clock();
    options.listen = "0.0.0.0:0".parse().unwrap();
    let open = PeerEndpoint::start(options);
    assert!(matches!(open, Err(StartError::Remote(_))));
}
