//! Nodes agree: the store is what openraft wants, and several of them lose nothing and do nothing twice.

mod cluster;
mod store;

use super::file::CatalogFile;
use super::machine::{Machine, Shown};
use super::*;
use crate::reserve::Reserve;
use cluster::Cluster;
use flowstone_storage::RealDisk;
use flowstone_wire::{ErrorCode, NodeId};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn reserve(dir: &Path) -> Arc<Reserve> {
    let disk = Arc::new(RealDisk::new(dir).unwrap());
    Arc::new(Reserve::open(disk, 0).unwrap())
}

fn create(name: &str) -> Command {
    Command::CreateTopic {
        name: name.into(),
        partitions: 1,
        settings: Default::default(),
    }
}

#[test]
fn one_node_begins_at_once_and_finds_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    make(&path, &[]).unwrap();
    let mut took = Duration::MAX;
    for turn in 0..5 {
        let started = Instant::now();
        let open = CatalogThread::start(&path, 1, reserve(dir.path()), Role::Founder).unwrap();
        took = took.min(started.elapsed());
        assert!(open.member.leads());
        let member = open.member.clone();
        assert_eq!(member.watch().borrow().topics().count(), turn);
        let command = create(&format!("t{turn}"));
        let done = open.wait_for(async move { member.apply(turn as u128 + 1, command).await });
        assert!(matches!(done, Some(Ok(Event::TopicCreated(_)))));
        assert_eq!(open.member.watch().borrow().topics().count(), turn + 1);
    }
    assert!(
        took < Duration::from_millis(500),
        "{took:?}: it waits for an election"
    );
}

#[test]
fn a_catalog_of_before_is_taken_over_and_its_rows_reach_another_node() {
    let mut before = flowstone_core::Catalog::new(1);
    let (_, rows) = before.apply(create("old")).unwrap();
    let rows: Vec<_> = rows
        .into_iter()
        .map(|r| (r.key, r.value.unwrap()))
        .collect();
    let mut cluster = Cluster::of_rows(&rows);
    cluster.found();
    let two = cluster.join();
    cluster.wait("the rows are there", |c| {
        c.catalog(two).is_some_and(|c| c.topic("old").is_ok())
    });
}

#[test]
fn a_copy_of_one_of_several_nodes_does_not_vote_again() {
    let mut cluster = Cluster::of(3);
    let rows = cluster.rows(NodeId(1));
    cluster.stop(NodeId(1));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    make(&path, &rows).unwrap();
    let refused = CatalogThread::start(&path, 1, reserve(dir.path()), Role::Founder);
    assert!(refused.is_err_and(|e| e.contains("join again")));
}

#[test]
fn a_command_is_applied_wherever_it_is_given_and_refused_like_at_the_leader() {
    let mut cluster = Cluster::of(3);
    for node in 1..=3 {
        let name = format!("t{node}");
        let done = cluster.apply(NodeId(node), create(&name));
        assert!(matches!(done, Ok(Event::TopicCreated(_))), "{done:?}");
        assert!(cluster.catalog(NodeId(node)).unwrap().topic(&name).is_ok());
        let again = cluster.apply(NodeId(node % 3 + 1), create(&name));
        assert_eq!(again.unwrap_err().code, ErrorCode::TopicExists);
    }
}

#[test]
fn a_dead_leader_is_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::of(3);
    for turn in 0..3 {
        let leader = cluster.leader();
        cluster
            .apply(leader, create(&format!("before{turn}")))
            .unwrap();
        cluster.stop(leader);
        let other = NodeId(leader.0 % 3 + 1);
        cluster
            .apply(other, create(&format!("after{turn}")))
            .unwrap();
        let found = cluster.catalog(other).unwrap();
        assert_eq!(found.topics().count(), 2 * turn + 2);
        cluster.start(leader);
        cluster.wait("it has caught up", |c| {
            c.catalog(leader)
                .is_some_and(|c| c.topics().count() == 2 * turn + 2)
        });
    }
}

#[test]
fn without_a_majority_nothing_is_agreed_on_and_the_error_says_so() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    for node in (1..=3).map(NodeId).filter(|n| *n != leader) {
        cluster.cut(node, true);
    }
    let failed = cluster.apply(leader, create("t")).unwrap_err();
    assert!(
        matches!(
            failed.code,
            ErrorCode::Timeout | ErrorCode::CatalogUnavailable
        ),
        "{failed}"
    );
    assert!(
        failed.message.contains("its voters are 1, 2, 3"),
        "{failed}"
    );
    for node in (1..=3).map(NodeId) {
        cluster.cut(node, false);
    }
    let done = cluster.apply(leader, create("u"));
    assert!(done.is_ok(), "{done:?}");
}

/// The answer of every proposal is lost once, and leaders come and go: each number is still given once.
#[test]
fn what_is_proposed_again_is_not_applied_again() {
    let mut cluster = Cluster::of(3);
    let mut taken = std::collections::BTreeSet::new();
    for turn in 0..12u64 {
        cluster.lose_answers(1);
        let node = NodeId((turn % 3) as u32 + 1);
        if turn % 4 == 3 {
            let leader = cluster.leader();
            cluster.cut(leader, true);
            cluster.wait("another leads", |c| c.leader_but(leader).is_some());
            cluster.cut(leader, false);
        }
        let done = cluster.apply(node, Command::TakeProducers { count: 10 });
        let Ok(Event::ProducersTaken(first)) = done else {
            panic!("{done:?}");
        };
        assert_eq!(first.0, turn * 10 + 1, "no number is left out");
        assert!(taken.insert(first));
    }
}

#[test]
fn a_node_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let behind = NodeId(leader.0 % 3 + 1);
    cluster.stop(behind);
    // More than are kept in the log below a snapshot.
    for _ in 0..40 {
        let many = (0..50).map(|_| Command::TakeProducers { count: 1 });
        cluster.apply_all(leader, many.collect());
    }
    cluster.wait("the log is purged", |c| c.purged(leader) > 100);
    cluster.apply(leader, create("t")).unwrap();
    cluster.start(behind);
    cluster.wait("it has caught up", |c| {
        c.catalog(behind).is_some_and(|c| c.topic("t").is_ok())
    });
}

#[test]
fn a_node_that_was_removed_votes_no_more_and_is_told_so() {
    use flowstone_core::catalog::{NodeCommand, NodeState};
    let mut cluster = Cluster::of(4);
    let leader = cluster.leader();
    let node = (1..=4).map(NodeId).find(|n| *n != leader).unwrap();
    let state = NodeState::Removed;
    let remove = Command::Node(NodeCommand::SetState { node, state });
    cluster.apply(leader, remove).unwrap();
    cluster.wait("it votes no more", |c| {
        let voters = c.voters(leader);
        voters.len() == 3 && !voters.contains(&node)
    });
    let refused = cluster.serve(leader, node);
    assert!(matches!(refused, PeerAnswer::Refused(f) if f.code == ErrorCode::NotFound));
}

#[test]
fn shards_fail_over_when_reports_of_a_leader_stop() {
    let mut cluster = Cluster::of(3);
    cluster.set_copies(3);
    cluster.run_replicas();
    cluster.wait("three copies", |c| {
        c.placed()
            .is_some_and(|p| p.config.members.len() == 3 && p.is_active())
    });
    let lost = cluster.placed().unwrap().config.leader.node;
    let started = Instant::now();
    cluster.stop(lost);
    cluster.wait("another leads", |c| {
        c.placed()
            .is_some_and(|p| p.config.leader.node != lost && p.is_active())
    });
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    println!("failover in {} ms", took.as_millis());
}
