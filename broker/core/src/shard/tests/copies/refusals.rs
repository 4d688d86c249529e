//! What a leader that hears nobody may say: another one may have taken what it lacks.

use super::world::{CATALOG, World};
use crate::input::Ticket;
use crate::replica::Phase;
use crate::replica::sim::rng::Rng;
use flowstone_wire::ErrorCode;

/// Three nodes, of which one leads and has the first batch of a producer.
fn led(seed: u64) -> (World, usize) {
    let mut world = World::begin(Rng::new(seed), 3, false);
    let sent = world.catalog.calm_with_all(world.now_us);
    world.send_all(sent);
    world.until("one leads", |w| leader_of(w).is_some());
    let leader = leader_of(&world).unwrap();
    let first = world.ask(leader, 0);
    world.until("the first is acknowledged", |w| {
        answered(w, first).is_some()
    });
    assert_eq!(answered(&world, first), Some(None));
    (world, leader)
}

fn leader_of(world: &World) -> Option<usize> {
    let leader = world.catalog.config.leader.node.0 as usize;
    let live = world.nodes[leader].live.as_ref()?;
    let replica = live.shard.replica()?;
    (replica.phase() == Phase::Leading && replica.is_sure()).then_some(leader)
}

/// Whether it is answered, and with which refusal.
fn answered(world: &World, ticket: Ticket) -> Option<Option<ErrorCode>> {
    let answer = world.clients.answers.get(&ticket)?;
    Some(answer.as_ref().err().map(|e| e.code))
}

fn cut_off(world: &mut World, n: usize) {
    for other in (0..world.nodes.len()).filter(|o| *o != n) {
        world.cut.extend([(n, other), (other, n)]);
    }
}

#[test]
fn a_gap_in_a_sequence_is_refused_when_a_majority_has_answered_since() {
    for seed in 0..20 {
        let (mut world, leader) = led(seed);
        cut_off(&mut world, leader);
        let gap = world.ask(leader, 2);
        let then_us = world.now_us + 200_000;
        world.until("a while", |w| w.now_us > then_us);
        assert_eq!(answered(&world, gap), None, "nobody has confirmed it");
        world.cut.clear();
        world.until("it is told", |w| answered(w, gap).is_some());
        assert_eq!(
            answered(&world, gap),
            Some(Some(ErrorCode::OutOfOrderSequence))
        );
    }
}

#[test]
fn a_leader_that_was_replaced_unheard_of_refuses_nothing_for_good() {
    for seed in 0..20 {
        let (mut world, old) = led(seed);
        cut_off(&mut world, old);
        // Another one leads, and takes what the old one has not.
        world.cut.extend([(old, CATALOG), (CATALOG, old)]);
        world.until("another leads", |w| leader_of(w).is_some_and(|n| n != old));
        let new = leader_of(&world).unwrap();
        let second = world.ask(new, 1);
        world.until("the second is there", |w| answered(w, second).is_some());
        assert_eq!(answered(&world, second), Some(None));
        // The producer goes on at the old one, which knows of the first only.
        let third = world.ask(old, 2);
        world.until("it is told", |w| answered(w, third).is_some());
        assert_eq!(answered(&world, third), Some(Some(ErrorCode::NotLeader)));
    }
}
