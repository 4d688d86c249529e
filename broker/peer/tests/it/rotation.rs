//! New certificates and new authorities, while messages go on.

use crate::rig::{Cluster, NOW_S, Node, append, credentials, lsn_of, pattern, wait};
use flowstone_peer::identity::{Term, Trust};
use flowstone_peer::{Credentials, RENEW_KIND, RenewalHandler, Sent, renew, renew_here};
use flowstone_wire::NodeId;
use std::sync::Arc;

/// Node 1 can renew certificates, in the name of an authority.
fn renews(cluster: &Cluster, node: &Node) {
    let authority = Arc::new(
        flowstone_peer::identity::Authority::from_bytes(&cluster.authority.to_bytes()).unwrap(),
    );
    let issue = move |who: NodeId, key| {
        let authority = authority.clone();
        let future: flowstone_peer::BoxFuture<_> = Box::pin(async move {
            if who == NodeId(3) {
                return Err("node 3 is not listed".to_owned());
            }
            let issued = authority.issue(who, &key, Term::of_node(NOW_S + 1));
            let trust = Trust::only(authority.trusted());
            issued.map(|i| (i, trust)).map_err(|e| e.to_string())
        });
        future
    };
    let handler = Arc::new(RenewalHandler(Arc::new(issue)));
    node.endpoint.register(RENEW_KIND, handler);
}

fn stream(from: &Node, to: &Node, lsns: std::ops::Range<u64>) {
    for lsn in lsns {
        let body = pattern(lsn, 10_000);
        let sent = from
            .endpoint
            .send(NodeId(2), append(1, 2, 0, lsn, 10_000), vec![body]);
        assert_eq!(sent, Sent::Queued);
        let came = to.next();
        assert_eq!((lsn_of(&came), came.body), (lsn, pattern(lsn, 10_000)));
    }
}

#[test]
fn a_node_that_is_alone_issues_its_next_certificate_itself() {
    let cluster = Cluster::new(1);
    let (one, _two) = cluster.pair();
    let authority = Arc::new(
        flowstone_peer::identity::Authority::from_bytes(&cluster.authority.to_bytes()).unwrap(),
    );
    let issue = move |who: NodeId, key| {
        let issued = authority.issue(who, &key, Term::of_hours(NOW_S + 1, 2));
        let trust = Trust::only(authority.trusted());
        let answer = issued.map(|i| (i, trust)).map_err(|e| e.to_string());
        let future: flowstone_peer::BoxFuture<_> = Box::pin(async move { answer });
        future
    };
    let old = one.endpoint.credentials();
    let new = wait(renew_here(&one.endpoint, &issue)).unwrap();
    assert_ne!(new.key.public(), old.key.public());
    assert_eq!(new.issued.until_s, NOW_S + 1 + 2 * 3600);
    assert_eq!(one.endpoint.credentials().issued, new.issued);
    let refuses = |_: NodeId, _| {
        let future: flowstone_peer::BoxFuture<_> = Box::pin(async { Err("not now".to_owned()) });
        future
    };
    assert!(wait(renew_here(&one.endpoint, &refuses)).is_err());
    assert_eq!(
        one.endpoint.credentials().issued,
        new.issued,
        "it stays in use"
    );
}

#[test]
fn a_certificate_is_renewed_under_traffic_without_a_new_connection() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    renews(&cluster, &one);
    stream(&one, &two, 1..20);
    let old = two.endpoint.credentials();
    let new = wait(renew(&two.endpoint, NodeId(1))).unwrap();
    assert_ne!(new.key.public(), old.key.public());
    assert_eq!(new.issued.from_s, NOW_S + 1);
    assert_eq!(two.endpoint.credentials().issued, new.issued);
    stream(&one, &two, 20..40);
    let counts = one.endpoint.status(NodeId(2)).unwrap().counts;
    assert_eq!(counts.connections, 1, "live connections go on");
    // New ones use the new one: the old one's time may be over.
    cluster
        .now_s
        .store(old.issued.until_s, std::sync::atomic::Ordering::SeqCst);
    let three = cluster.node_with(3, |o| {
        let term = Term::of_node(old.issued.until_s);
        let key = o.credentials.key.public();
        o.credentials.issued = cluster.authority.issue(NodeId(3), &key, term).unwrap();
    });
    three.knows(2, two.address());
    three.up(2);
}

#[test]
fn a_node_that_the_catalog_does_not_list_gets_no_certificate() {
    let cluster = Cluster::new(1);
    let (one, three) = (cluster.node(1), cluster.node(3));
    renews(&cluster, &one);
    three.knows(1, one.address());
    let old = three.endpoint.credentials();
    let error = wait(renew(&three.endpoint, NodeId(1))).unwrap_err();
    assert_eq!(error.to_string(), "node 3 is not listed");
    assert_eq!(three.endpoint.credentials().issued, old.issued);
}

#[test]
fn the_authority_is_replaced_under_traffic() {
    let cluster = Cluster::new(1);
    let (one, two) = cluster.pair();
    let old = cluster.authority.trusted();
    let next = cluster
        .authority
        .successor(Term::of_authority(NOW_S))
        .unwrap();
    let both = Trust::only(old).and(next.trusted());
    stream(&one, &two, 1..5);
    // First everybody believes both, then everybody gets a new certificate, then only the new one counts.
    for node in [&one, &two] {
        let own = node.endpoint.credentials();
        let trust = both.clone();
        let own = Credentials {
            trust,
            ..(*own).clone()
        };
        node.endpoint.set_credentials(own).unwrap();
    }
    stream(&one, &two, 5..10);
    let again = credentials(&next, 1, both.clone());
    one.endpoint.set_credentials(again).unwrap();
    let third = cluster.node_with(3, |o| o.credentials = credentials(&next, 3, both.clone()));
    third.knows(2, two.address());
    third.up(2);
    let again = credentials(&next, 2, both.newest());
    two.endpoint.set_credentials(again).unwrap();
    stream(&one, &two, 10..15);
    let counts = one.endpoint.status(NodeId(2)).unwrap().counts;
    assert_eq!(counts.connections, 1);
    let late = cluster.node(4);
    late.knows(2, two.address());
    let why = loop {
        if let Some(why) = late.endpoint.status(NodeId(2)).unwrap().last_error {
            break why;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    };
    assert!(why.contains("does not trust"), "{why}");
}

#[test]
fn nobody_becomes_another_node_by_new_credentials() {
    let cluster = Cluster::new(1);
    let one = cluster.node(1);
    let as_two = one.endpoint.set_credentials(cluster.credentials(2));
    assert!(as_two.unwrap_err().to_string().contains("is of node 2"));
    let elsewhere = Cluster::new(2).credentials(1);
    let elsewhere = one.endpoint.set_credentials(elsewhere);
    assert!(
        elsewhere
            .unwrap_err()
            .to_string()
            .contains("is of cluster 0202")
    );
    let mut mixed = cluster.credentials(1);
    mixed.key = cluster.credentials(1).key;
    let mixed = one.endpoint.set_credentials(mixed);
    assert!(mixed.unwrap_err().to_string().contains("another key"));
}
