//! Voters come in pairs, go when they are removed, and are five at most.

use super::*;

fn set(ids: &[u64]) -> BTreeSet<u64> {
    ids.iter().copied().collect()
}

/// Nodes 1 to `data` hold shards, the next ones up to `nodes` are witnesses.
fn electorate(voters: &[u64], followers: &[u64], data: u64, nodes: u64) -> Electorate {
    let role = |id| if id > data { Role::Witness } else { Role::Data };
    Electorate {
        voters: set(voters),
        followers: set(followers),
        near: set(followers),
        nodes: (1..=nodes).map(|id| (id, role(id))).collect(),
        leaving: BTreeSet::new(),
    }
}

#[test]
fn who_comes_follows_first_and_pairs_vote() {
    assert_eq!(electorate(&[1], &[1], 1, 1).next(), Change::None);
    assert_eq!(
        electorate(&[1], &[1], 2, 2).next(),
        Change::Follow(set(&[2]))
    );
    assert_eq!(
        electorate(&[1], &[1, 2], 2, 2).next(),
        Change::None,
        "one of two votes"
    );
    let three = electorate(&[1], &[1, 2, 3], 3, 3).next();
    assert_eq!(three, Change::Vote(set(&[1, 2, 3])));
}

#[test]
fn a_learner_that_lacks_much_does_not_vote() {
    let mut all = electorate(&[1], &[1, 2, 3], 3, 3);
    all.near = set(&[1, 2]);
    assert_eq!(all.next(), Change::None);
}

#[test]
fn witnesses_vote_before_others_and_there_are_five_at_most() {
    let four = electorate(&[1], &[1, 2, 3, 4], 3, 4).next();
    assert_eq!(four, Change::Vote(set(&[1, 2, 4])));
    let all: Vec<u64> = (1..=8).collect();
    let eight = electorate(&[1, 2, 3], &all, 8, 8).next();
    assert_eq!(eight, Change::Vote(set(&[1, 2, 3, 4, 5])));
}

#[test]
fn who_is_to_leave_gives_its_vote_to_another_one_if_there_is_one() {
    let leaves = |mut all: Electorate, id| {
        all.leaving = set(&[id]);
        all.next()
    };
    let two = electorate(&[1], &[1, 2], 2, 2);
    assert_eq!(leaves(two, 1), Change::Vote(set(&[2])), "the only voter");
    let four = electorate(&[1, 2, 3], &[1, 2, 3, 4], 4, 4);
    assert_eq!(leaves(four, 2), Change::Vote(set(&[1, 3, 4])));
    let three = electorate(&[1, 2, 3], &[1, 2, 3], 3, 3);
    assert_eq!(leaves(three, 2), Change::None, "two would be worse");
    let mut far = electorate(&[1], &[1, 2], 2, 2);
    far.near = set(&[1]);
    assert_eq!(leaves(far, 1), Change::None, "nobody can take it");
    let pair = electorate(&[1, 3], &[1, 3], 3, 3);
    assert_eq!(
        leaves(pair, 3),
        Change::Follow(set(&[2])),
        "who has come first"
    );
    let mut pair = electorate(&[1, 2], &[1, 2], 2, 2);
    pair.leaving = set(&[1]);
    assert_eq!(pair.next(), Change::Vote(set(&[2])));
    let new = electorate(&[2], &[1, 2], 2, 2);
    assert_eq!(
        leaves(new, 1),
        Change::None,
        "it follows until it is removed"
    );
}

#[test]
fn who_was_removed_leaves_and_is_replaced_where_that_keeps_the_number_odd() {
    let mut all = electorate(&[1, 2, 3], &[1, 2, 3, 4], 4, 4);
    all.nodes.remove(&2);
    assert_eq!(all.next(), Change::Vote(set(&[1, 3, 4])));
    let mut three = electorate(&[1, 2, 3], &[1, 2, 3], 3, 3);
    three.nodes.remove(&2);
    assert_eq!(three.next(), Change::Vote(set(&[1, 3])));
    let mut left = electorate(&[1, 3], &[1, 2, 3], 3, 3);
    left.nodes.remove(&2);
    assert_eq!(left.next(), Change::Leave(set(&[2])));
}
