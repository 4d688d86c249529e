//! Placement converges, and proposes nothing that could lose anything.

mod model;

use super::*;
use crate::catalog::{ClusterCommand, Event, NodeCommand, NodeState, Role};
use flowstone_wire::native::MoveCause;
use model::Model;
use proptest::prelude::*;

#[test]
fn the_first_epoch_is_above_what_the_log_has_and_led_by_the_longest_log() {
    let mut m = Model::new(2, 0, 1);
    let (node, state) = (NodeId(2), NodeState::Active);
    let command = Command::Node(NodeCommand::SetState { node, state });
    m.catalog.apply(command).unwrap();
    m.replicas
        .get_mut(&(ShardId(0), NodeId(2)))
        .unwrap()
        .durable = (7, 90);
    m.run_ms(500);
    let config = &m.placed(0).config;
    assert_eq!((config.leader.node, config.epoch), (NodeId(2), Epoch(8)));
    assert_eq!(config.previous, []);
}

#[test]
fn a_silent_leader_is_replaced_in_a_second_and_no_sooner() {
    let mut m = Model::settled(3, 0, 1, 3);
    let epoch = m.placed(0).config.epoch;
    let leader = m.placed(0).config.leader.node;
    m.kill(leader);
    m.run_ms(900);
    assert_eq!(m.placed(0).config.epoch, epoch);
    m.run_ms(350);
    assert_ne!(m.placed(0).config.leader.node, leader);
    assert!(m.placed(0).is_active());
    assert_eq!(
        m.placed(0).config.members.len(),
        3,
        "two of three can commit"
    );
}

#[test]
fn the_last_move_of_a_leader_is_told_with_its_cause_and_for_how_long_nobody_led() {
    let mut m = Model::settled(3, 0, 1, 3);
    let first = m.placed(0).config.leader.node;
    let before = m.controller.last_move(ShardId(0)).cloned();
    m.kill(first);
    m.run_ms(1_500);
    let moved = m.controller.last_move(ShardId(0)).cloned().unwrap();
    assert_ne!(Some(&moved), before.as_ref());
    let second = m.placed(0).config.leader.node;
    assert_eq!((moved.from, moved.to), (first, second));
    assert_eq!(moved.cause, MoveCause::Silent);
    assert_eq!(moved.epoch, m.placed(0).config.epoch);
    let took_ms = moved.took_ms.unwrap();
    assert!((1_000..1_500).contains(&took_ms), "{took_ms} ms");
    m.revive(first, false);
    // The preferred leader leads again, when all has been quiet.
    m.run_ms(60_000);
    let back = m.controller.last_move(ShardId(0)).cloned().unwrap();
    assert_eq!((back.from, back.to), (second, first));
    assert_eq!(back.cause, MoveCause::HandedOver);
    assert!(back.took_ms.unwrap() < 500, "{back:?}");
}

#[test]
fn a_pair_with_a_witness_survives_either_box_and_notes_that_it_is_alone() {
    for lost in [1, 2] {
        let mut m = Model::settled(2, 1, 2, 2);
        m.kill(NodeId(lost));
        m.run_ms(20_000);
        for shard in 0..2 {
            let placed = m.placed(shard);
            assert_eq!(placed.config.members.len(), 1, "{placed:?}");
            assert!(placed.is_active() && placed.alone_since_ms.is_some());
        }
        m.revive(NodeId(lost), false);
        m.run_ms(30_000);
        for shard in 0..2 {
            assert_eq!(m.placed(shard).config.members.len(), 2);
            assert_eq!(m.placed(shard).alone_since_ms, None);
        }
        m.assert_settled();
    }
}

#[test]
fn a_node_that_is_away_is_replaced_after_a_while_and_not_before() {
    let mut m = Model::settled(4, 0, 1, 3);
    let gone = *m.placed(0).homes.last().unwrap();
    m.kill(gone);
    m.run_ms(500_000);
    assert!(m.placed(0).homes.contains(&gone));
    m.run_ms(150_000);
    assert!(!m.placed(0).homes.contains(&gone));
    assert_eq!(m.placed(0).config.members.len(), 3);
}

#[test]
fn a_node_that_is_drained_ends_with_nothing_and_can_be_removed() {
    let mut m = Model::settled(3, 0, 6, 2);
    let node = NodeId(1);
    let remove = Command::Node(NodeCommand::SetState {
        node,
        state: NodeState::Removed,
    });
    assert!(m.catalog.apply(remove.clone()).is_err(), "it holds shards");
    let state = NodeState::Draining;
    let drain = Command::Node(NodeCommand::SetState { node, state });
    m.catalog.apply(drain).unwrap();
    m.run_ms(300_000);
    assert_eq!(m.catalog.shards_on(node).next(), None);
    m.catalog.apply(remove).unwrap();
    m.assert_settled();
}

#[test]
fn a_node_that_is_drained_keeps_its_copy_while_another_one_is_away() {
    let mut m = Model::settled(3, 0, 2, 3);
    let (away, node) = (NodeId(3), NodeId(2));
    m.kill(away);
    m.run_ms(3_000);
    let state = NodeState::Draining;
    let drain = Command::Node(NodeCommand::SetState { node, state });
    m.catalog.apply(drain).unwrap();
    m.run_ms(60_000);
    for shard in 0..2 {
        let members = &m.placed(shard).config.members;
        assert!(
            members.iter().any(|m| m.node == node),
            "{:?}",
            m.placed(shard)
        );
    }
    m.revive(away, false);
    m.run_ms(60_000);
    assert_eq!(m.catalog.shards_on(node).next(), None);
    m.assert_settled();
}

#[test]
fn a_witness_gets_no_shards() {
    let m = Model::settled(1, 2, 3, 3);
    for (_, placed) in m.catalog.all_placed() {
        assert_eq!(placed.homes, [NodeId(1)]);
    }
}

#[test]
fn a_shard_is_copied_to_few_new_nodes_at_a_time() {
    let mut m = Model::settled(3, 0, 12, 1);
    let command = ClusterCommand::SetCopies {
        group: None,
        copies: Some(2),
    };
    m.catalog.apply(Command::Cluster(command)).unwrap();
    m.slow_copies = true;
    m.forget_strays();
    let mut most = 0;
    for _ in 0..2_000 {
        m.run_ms(100);
        let learners = m.catalog.all_placed().map(|(_, p)| p.config.learners.len());
        most = most.max(learners.sum());
    }
    assert_eq!(most, Policy::DEFAULT.copies_at_once);
    m.run_ms(600_000);
    m.assert_settled();
}

#[test]
fn who_slept_does_not_take_that_for_silence_of_others() {
    let mut m = Model::settled(3, 0, 2, 3);
    let before: Vec<Epoch> = m
        .catalog
        .all_placed()
        .map(|(_, p)| p.config.epoch)
        .collect();
    m.now_us += 5_000_000;
    let commands = m.controller.look(&m.catalog, m.now());
    assert_eq!(commands, []);
    m.run_ms(3_000);
    let after: Vec<Epoch> = m
        .catalog
        .all_placed()
        .map(|(_, p)| p.config.epoch)
        .collect();
    assert_eq!(before, after);
}

#[test]
fn stale_questions_are_ignored() {
    use crate::replica::{Ask, Asked};
    let mut m = Model::settled(3, 0, 1, 3);
    let config = m.placed(0).config.clone();
    let other = *config
        .members
        .iter()
        .find(|m| **m != config.leader)
        .unwrap();
    let now = m.now();
    let mut ask = |from, epoch, version, ask| {
        let asked = Asked {
            from,
            epoch,
            version,
            ask,
        };
        m.controller.asked(&m.catalog, ShardId(0), &asked, now)
    };
    let (leader, epoch, version) = (config.leader, config.epoch, config.version);
    let old = Epoch(epoch.0 - 1);
    assert_eq!(
        ask(leader, epoch, version, Ask::Activate),
        Answer::Activated(epoch)
    );
    assert_eq!(ask(leader, old, version, Ask::Activate), Answer::Nothing);
    assert_eq!(ask(other, epoch, version, Ask::Reappoint), Answer::Nothing);
    assert_eq!(
        ask(other, epoch, version, Ask::Drop(leader)),
        Answer::Nothing
    );
    assert_eq!(
        ask(leader, epoch, version, Ask::Drop(leader)),
        Answer::Nothing
    );
    assert_eq!(
        ask(leader, epoch, version, Ask::Admit(other)),
        Answer::Nothing
    );
    let behind = flowstone_wire::ConfigVersion(version.0 - 1);
    assert_eq!(
        ask(leader, epoch, behind, Ask::Drop(other)),
        Answer::Config(config)
    );
}

fn step(m: &mut Model, what: u8, which: u32, ms: u64) {
    let count = m.catalog.nodes().count() as u32;
    let node = NodeId(which % count + 1);
    match what {
        0 | 1 => m.kill(node),
        2 | 3 => m.revive(node, false),
        4 if m.can_lose(node) => m.revive(node, true),
        5 if count < 6 => {
            m.add_node(Role::Data);
        }
        6 => {
            let copies = Some((which % 4 + 1) as u8);
            let command = ClusterCommand::SetCopies {
                group: None,
                copies,
            };
            m.catalog.apply(Command::Cluster(command)).unwrap();
        }
        7 | 8 => {
            let state = [NodeState::Draining, NodeState::Active][usize::from(what) - 7];
            let command = Command::Node(NodeCommand::SetState { node, state });
            let done = m.catalog.apply(command);
            assert!(matches!(done, Ok((Event::NodeChanged, _))));
        }
        9 => m.now_us += ms * 1000,
        10 => m.new_controller(),
        _ => {}
    }
    m.run_ms(ms);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    // The model itself checks at every step that no command is refused and that no leader lacks
    // anything that was committed.
    #[test]
    fn placement_converges_from_any_state(
        nodes in 1usize..5,
        shards in 1u16..6,
        copies in 1u8..4,
        steps in proptest::collection::vec((0u8..11, 0u32..8, 20u64..4_000), 0..25),
    ) {
        let mut m = Model::settled(nodes, 1, shards, copies);
        for (what, which, ms) in steps {
            step(&mut m, what, which, ms);
        }
        let all: Vec<NodeId> = m.catalog.nodes().map(|n| n.id).collect();
        for node in all {
            m.revive(node, false);
        }
        m.run_ms(900_000);
        m.assert_settled();
    }
}
