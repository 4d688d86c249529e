//! Epochs, sets and what was active, as replication needs them.

use super::*;
use crate::catalog::{Addresses, ClusterCommand, Command, NodeCommand, NodeSpec, Token};
use ErrorCode::{InvalidRequest, Stale};

const SHARD: ShardId = ShardId(0);

fn spec(name: &str) -> NodeSpec {
    NodeSpec {
        name: name.into(),
        addresses: Addresses::default(),
        role: Role::Data,
        fingerprint: None,
    }
}

/// Nodes 1 to 3.
fn catalog() -> Catalog {
    let mut c = Catalog::new(1);
    let (id, node) = ("c".into(), spec("n1"));
    let mut commands = vec![Command::Cluster(ClusterCommand::Found { id, node })];
    for n in 2..4u8 {
        let hash = [n; 32];
        let (role, now_ms) = (Role::Data, 0);
        let token = Token {
            role,
            expires_ms: 9,
        };
        commands.push(Command::Cluster(ClusterCommand::AddToken {
            hash,
            token,
            now_ms,
        }));
        let (token, node) = (hash, spec(&format!("n{n}")));
        commands.push(Command::Node(NodeCommand::Join {
            token,
            now_ms,
            node,
        }));
    }
    commands
        .into_iter()
        .for_each(|c2| drop(c.apply(c2).unwrap()));
    c
}

fn m(node: u32, life: u64) -> Member {
    Member {
        node: NodeId(node),
        incarnation: Incarnation(life),
    }
}

fn appoint(c: &mut Catalog, basis: u64, members: &[Member]) -> Result<Config, ErrorCode> {
    let new = Appointment {
        shard: SHARD,
        basis: ConfigVersion(basis),
        above: Epoch(4),
        leader: members[0],
        members: members.to_vec(),
        learners: Vec::new(),
        now_ms: 100 + basis,
    };
    match c.apply_to_shard(ShardCommand::Appoint(new)) {
        Ok((Event::Appointed(config), _)) => Ok(config),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e.code),
    }
}

fn activate(c: &mut Catalog, epoch: u32, leader: Member) -> Result<(), ErrorCode> {
    let epoch = Epoch(epoch);
    let shard = SHARD;
    let done = c.apply_to_shard(ShardCommand::Activate {
        shard,
        epoch,
        leader,
    });
    done.map(drop).map_err(|e| e.code)
}

fn learn(c: &mut Catalog, basis: u64, learners: &[Member]) -> Result<(), ErrorCode> {
    let done = c.apply_to_shard(ShardCommand::SetLearners {
        shard: SHARD,
        basis: ConfigVersion(basis),
        learners: learners.to_vec(),
    });
    done.map(drop).map_err(|e| e.code)
}

#[test]
fn the_set_to_seal_is_the_last_one_that_was_active() {
    let mut c = catalog();
    let one = appoint(&mut c, 0, &[m(1, 1)]).unwrap();
    assert_eq!((one.epoch, one.version), (Epoch(5), ConfigVersion(1)));
    activate(&mut c, 5, m(1, 1)).unwrap();
    let two = appoint(&mut c, 1, &[m(1, 1), m(2, 1)]).unwrap();
    assert_eq!(two.previous, [m(1, 1)]);
    // It never got together, and is passed over.
    let three = appoint(&mut c, 2, &[m(1, 1), m(3, 1)]).unwrap();
    assert_eq!(three.previous, [m(1, 1)]);
    activate(&mut c, 7, m(1, 1)).unwrap();
    let four = appoint(&mut c, 3, &[m(3, 1)]).unwrap();
    assert_eq!(
        (four.previous, four.epoch),
        (vec![m(1, 1), m(3, 1)], Epoch(8))
    );
}

#[test]
fn an_epoch_is_activated_by_the_newest_leader_only_and_twice_does_no_harm() {
    let mut c = catalog();
    appoint(&mut c, 0, &[m(1, 1), m(2, 1)]).unwrap();
    assert_eq!(activate(&mut c, 5, m(2, 1)), Err(Stale));
    assert_eq!(activate(&mut c, 5, m(1, 1)), Ok(()));
    appoint(&mut c, 1, &[m(2, 1), m(1, 1)]).unwrap();
    let before = c.placed(SHARD).cloned();
    assert_eq!(
        activate(&mut c, 5, m(1, 1)),
        Ok(()),
        "it was, and is told so"
    );
    assert_eq!(activate(&mut c, 6, m(1, 1)), Err(Stale));
    assert_eq!(c.placed(SHARD).cloned(), before);
}

#[test]
fn what_was_decided_for_another_version_is_refused() {
    let mut c = catalog();
    assert_eq!(appoint(&mut c, 3, &[m(1, 1)]), Err(Stale));
    appoint(&mut c, 0, &[m(1, 1)]).unwrap();
    assert_eq!(appoint(&mut c, 0, &[m(2, 1)]), Err(Stale));
    assert_eq!(learn(&mut c, 0, &[m(2, 1)]), Err(Stale));
    learn(&mut c, 1, &[m(2, 1)]).unwrap();
    assert_eq!(appoint(&mut c, 1, &[m(2, 1)]), Err(Stale));
    let config = &c.placed(SHARD).unwrap().config;
    assert_eq!((config.epoch, config.version), (Epoch(5), ConfigVersion(2)));
}

#[test]
fn sets_are_of_present_lives_each_node_once_and_led_by_one_who_was_there() {
    let mut c = catalog();
    appoint(&mut c, 0, &[m(1, 1), m(2, 5)]).unwrap();
    activate(&mut c, 5, m(1, 1)).unwrap();
    let refused = [
        (vec![m(2, 5), m(2, 6)], InvalidRequest),
        (vec![m(2, 4), m(1, 1)], Stale),
        (vec![m(3, 1), m(1, 1)], InvalidRequest),
        (vec![m(2, 6), m(1, 1)], InvalidRequest),
        (vec![m(1, 1), m(9, 1)], InvalidRequest),
        (vec![m(1, 1), m(3, 0)], InvalidRequest),
    ];
    let before = c.clone();
    for (members, code) in refused {
        assert_eq!(appoint(&mut c, 1, &members), Err(code), "{members:?}");
    }
    assert_eq!(
        learn(&mut c, 1, &[m(2, 6)]),
        Err(InvalidRequest),
        "a member, too"
    );
    assert_eq!(c, before);
    learn(&mut c, 1, &[m(3, 0)]).unwrap();
    appoint(&mut c, 2, &[m(2, 5), m(1, 1), m(3, 1)]).unwrap();
}

#[test]
fn a_shard_that_lost_its_other_copy_says_since_when() {
    let mut c = catalog();
    let alone = |c: &Catalog| c.placed(SHARD).unwrap().alone_since_ms;
    appoint(&mut c, 0, &[m(1, 1)]).unwrap();
    assert_eq!(alone(&c), None, "it never had another one");
    appoint(&mut c, 1, &[m(1, 1), m(2, 1)]).unwrap();
    appoint(&mut c, 2, &[m(1, 1)]).unwrap();
    appoint(&mut c, 3, &[m(1, 1)]).unwrap();
    assert_eq!(alone(&c), Some(102));
    appoint(&mut c, 4, &[m(1, 1), m(2, 1)]).unwrap();
    assert_eq!(alone(&c), None);
}

#[test]
fn rows_are_everything() {
    let mut c = catalog();
    let mut rows = BTreeMap::new();
    let new = Appointment {
        shard: SHARD,
        basis: ConfigVersion(0),
        above: Epoch(0),
        leader: m(1, 1),
        members: vec![m(1, 1), m(2, 3)],
        learners: vec![m(3, 0)],
        now_ms: 1,
    };
    let activate = ShardCommand::Activate {
        shard: SHARD,
        epoch: Epoch(1),
        leader: m(1, 1),
    };
    let homes = ShardCommand::SetHomes {
        shard: SHARD,
        was: vec![NodeId(1), NodeId(2)],
        homes: vec![NodeId(3)],
    };
    for command in [ShardCommand::Appoint(new), activate, homes] {
        for row in c.apply_to_shard(command).unwrap().1 {
            rows.insert(row.key, row.value.unwrap());
        }
    }
    let stored = rows.iter().map(|(k, v)| (&k[..], &v[..]));
    let read = Catalog::from_rows(1, stored).unwrap();
    assert_eq!(read.placed(SHARD), c.placed(SHARD));
}
