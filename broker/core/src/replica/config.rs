//! Who holds a shard: what the catalog appoints, and how many of them decide.

use flowstone_wire::{ConfigVersion, Epoch, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One life of a node. What one life has promised or stored says nothing about the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// The life of its data of this shard.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.incarnation)
    }
}

/// What the catalog says of a shard.
///
/// Within an epoch leader, members and previous set never change; a version within an epoch differs
/// from another in its learners only. So there is one set to count in for each epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Rises with every change.
    pub version: ConfigVersion,
    /// Given to one leader once.
    pub epoch: Epoch,
    /// Who leads the epoch; one of the members.
    pub leader: Member,
    /// Those whose durable LSNs count.
    pub members: Vec<Member>,
    /// Those who are brought up to become members; they count for nothing.
    pub learners: Vec<Member>,
    /// The members of the last epoch that was activated before this one; empty if none was: then
    /// nothing can have been committed.
    pub previous: Vec<Member>,
}

impl Config {
    /// Whether this life is a member.
    pub fn has_member(&self, who: Member) -> bool {
        self.members.contains(&who)
    }

    /// The life that is listed for a node, as a member or as a learner.
    pub fn listed(&self, node: NodeId) -> Option<Member> {
        let mut all = self.members.iter().chain(&self.learners);
        all.find(|m| m.node == node).copied()
    }

    /// Whether two versions of an epoch agree in all that must not change within it.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.leader == other.leader
            && self.members == other.members
            && self.previous == other.previous
    }
}

/// How many members must have an entry durable before it is committed: a majority, so both of two.
pub const fn commit_quorum(members: usize) -> usize {
    members / 2 + 1
}

/// How many members of a set must promise before another epoch begins: so many that no commit quorum
/// is left without one of them. For an odd set this is a majority again; of two members one is enough,
/// because a commit takes both, and so the survivor of a pair can go on.
pub const fn seal_quorum(members: usize) -> usize {
    members + 1 - commit_quorum(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_two_quorums_that_must_meet_meet() {
        for members in 1..20 {
            let (commit, seal) = (commit_quorum(members), seal_quorum(members));
            assert!(commit + seal > members, "a seal misses a commit");
            assert!(2 * commit > members, "two commits miss one another");
            assert!(seal <= commit, "a set that can commit can be sealed");
        }
        assert_eq!([1, 2, 3, 4, 5].map(commit_quorum), [1, 2, 2, 3, 3]);
        assert_eq!([1, 2, 3, 4, 5].map(seal_quorum), [1, 1, 2, 2, 3]);
    }
}
