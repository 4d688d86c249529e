//! The table of what is refused, each with what it says.

use super::*;
use crate::identity::{Authority, Credentials, NodeKey, Term, TrustedCa};

const NOW_S: u64 = 1_800_000_000;
const DAY_S: u64 = 24 * 3600;

fn cluster(byte: u8) -> ClusterId {
    ClusterId([byte; 16])
}

fn authority(byte: u8) -> Authority {
    Authority::found(cluster(byte), Term::of_authority(NOW_S)).unwrap()
}

fn term(now_s: u64) -> Term {
    let life_s = 10 * DAY_S;
    Term { now_s, life_s }
}

fn issue(by: &Authority, node: u32, now_s: u64) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let issued = by.issue(NodeId(node), &key.public(), term(now_s)).unwrap();
    Credentials {
        name: NodeName {
            node: NodeId(node),
            cluster: by.cluster(),
        },
        key,
        issued,
        trust: Trust::only(by.trusted()),
    }
}

fn judged(shown: &Credentials, trust: &Trust, side: Side, now_s: u64) -> Result<NodeId, String> {
    let judged = check(&shown.chain(), trust, side, cluster(1), now_s);
    judged.map_err(|e| e.to_string())
}

#[test]
fn a_node_of_the_cluster_is_known_on_both_sides() {
    let ours = authority(1);
    let (node, trust) = (issue(&ours, 7, NOW_S), Trust::only(ours.trusted()));
    let dialled = Side::Dialled(NodeId(7));
    assert_eq!(judged(&node, &trust, dialled, NOW_S), Ok(NodeId(7)));
    assert_eq!(judged(&node, &trust, Side::Accepted, NOW_S), Ok(NodeId(7)));
    node.check(NOW_S).unwrap();
    let again = Authority::from_bytes(&ours.to_bytes()).unwrap();
    let later = issue(&again, 8, NOW_S);
    assert_eq!(judged(&later, &trust, Side::Accepted, NOW_S), Ok(NodeId(8)));
    assert!(!format!("{ours:?} {node:?}").contains("pkcs8"));
}

#[test]
fn everything_wrong_is_refused_by_its_name() {
    let ours = authority(1);
    let trust = Trust::only(ours.trusted());
    let impostor = Authority::found(cluster(1), Term::of_authority(NOW_S)).unwrap();
    let accepted = Side::Accepted;
    let table = [
        (
            issue(&authority(2), 7, NOW_S),
            accepted,
            NOW_S,
            "is of cluster 0202",
        ),
        (
            issue(&impostor, 7, NOW_S),
            accepted,
            NOW_S,
            "does not trust",
        ),
        (
            issue(&ours, 8, NOW_S),
            Side::Dialled(NodeId(7)),
            NOW_S,
            "is of node 8, node 7 was dialled",
        ),
        (
            issue(&ours, 7, NOW_S),
            accepted,
            NOW_S + 11 * DAY_S,
            "expired 86400 s ago; renew it",
        ),
        (
            issue(&ours, 7, NOW_S + DAY_S),
            accepted,
            NOW_S,
            "begins in 82800 s; set the clock",
        ),
    ];
    for (shown, side, now_s, says) in table {
        let error = judged(&shown, &trust, side, now_s).unwrap_err();
        assert!(error.contains(says), "{error} does not say: {says}");
    }
    let of_nobody = check(&[], &trust, accepted, cluster(1), NOW_S);
    assert_eq!(of_nobody, Err(IdentityError::NoCertificate));
    let rubbish = [CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])];
    let rubbish = check(&rubbish, &trust, accepted, cluster(1), NOW_S);
    assert!(matches!(rubbish, Err(IdentityError::Unreadable(_))));
}

#[test]
fn the_authority_itself_is_no_node() {
    let ours = authority(1);
    let trust = Trust::only(ours.trusted());
    let shown = [CertificateDer::from(ours.trusted().certificate)];
    let judged = check(&shown, &trust, Side::Accepted, cluster(1), NOW_S);
    assert!(
        matches!(judged, Err(IdentityError::NoNodeName(_))),
        "{judged:?}"
    );
}

#[test]
fn clocks_may_differ_by_some_minutes() {
    let ours = authority(1);
    let (node, trust) = (issue(&ours, 7, NOW_S), Trust::only(ours.trusted()));
    let begins_s = NOW_S - crate::limits::BACKDATED_S;
    let ends_s = NOW_S + 10 * DAY_S;
    let known = |at_s: u64| judged(&node, &trust, Side::Accepted, at_s).is_ok();
    assert!(known(begins_s - CLOCK_SKEW_S) && !known(begins_s - CLOCK_SKEW_S - 1));
    assert!(known(ends_s + CLOCK_SKEW_S) && !known(ends_s + CLOCK_SKEW_S + 1));
}

#[test]
fn while_authorities_change_both_are_believed() {
    let old = authority(1);
    let new = old.successor(Term::of_authority(NOW_S)).unwrap();
    let (of_old, of_new) = (issue(&old, 1, NOW_S), issue(&new, 2, NOW_S));
    let before = Trust::only(old.trusted());
    let both = before.and(new.trusted());
    let after = both.newest();
    let known = |node: &Credentials, trust: &Trust| {
        let known = judged(node, trust, Side::Accepted, NOW_S);
        assert!(known.is_ok() || known.clone().unwrap_err().contains("does not trust"));
        known.is_ok()
    };
    assert!(known(&of_old, &before) && !known(&of_new, &before));
    assert!(known(&of_old, &both) && known(&of_new, &both));
    assert!(!known(&of_old, &after) && known(&of_new, &after));
    let over = TrustedCa {
        until_s: NOW_S - CLOCK_SKEW_S - 1,
        ..old.trusted()
    };
    assert!(!known(&of_old, &Trust::only(over)), "its time is over");
}

#[test]
fn credentials_are_for_one_key_and_renewed_in_time() {
    let ours = authority(1);
    let node = issue(&ours, 7, NOW_S);
    let (key, other) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
    let issued = ours.issue(NodeId(7), &key.public(), term(NOW_S)).unwrap();
    let next = node.renewed(key, issued.clone(), NOW_S).unwrap();
    assert_eq!(next.name, node.name);
    let wrong = node.renewed(other, issued, NOW_S).unwrap_err();
    assert_eq!(wrong, IdentityError::WrongKey);
    for seed in [0, 1, 77, u64::MAX] {
        let at_s = next.renew_at_s(seed) - NOW_S;
        assert!((5 * DAY_S..10 * DAY_S * 2 / 3).contains(&at_s), "{at_s}");
    }
}
