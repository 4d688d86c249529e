//! Who votes: up to five nodes, an odd number as long as nodes only come; others follow as learners.

use super::member::{Member, Metrics};
use flowstone_core::Catalog;
use flowstone_core::catalog::{NodeState, Role};
use flowstone_wire::NodeId;
use openraft::{ChangeMembers, EmptyNode};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::timeout;

/// Most voters.
const VOTERS_MAX: usize = 5;
/// A learner that lacks no more entries than this may vote.
const NEAR: u64 = 100;
/// Who was heard within this may get a vote.
const HEARD_US: u64 = 1_000_000;
/// A change that has not got through by then is looked at again.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who votes and follows, and what the catalog says of nodes.
pub(super) struct Electorate {
    pub(super) voters: BTreeSet<u64>,
    /// Those that follow, voters included.
    pub(super) followers: BTreeSet<u64>,
    /// Those that have nearly everything, and are there.
    pub(super) near: BTreeSet<u64>,
    /// Nodes of the cluster; witnesses first in mind, since that is all they do.
    pub(super) nodes: BTreeMap<u64, Role>,
    /// Those that are to leave: they vote only while nobody can in their place.
    pub(super) leaving: BTreeSet<u64>,
}

/// What to change next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// These follow from now on.
    Follow(BTreeSet<u64>),
    /// These vote from now on.
    Vote(BTreeSet<u64>),
    /// These do not even follow any more.
    Leave(BTreeSet<u64>),
}

impl Electorate {
    /// One step at a time: who was removed leaves, who has come follows, who is to leave gives its vote to
    /// another one, and pairs of those who have nearly everything vote. A second voter alone would only be
    /// one more that must not fail.
    pub(super) fn next(&self) -> Change {
        let is_node = |id: &&u64| self.nodes.contains_key(id);
        let gone = self.voters.iter().find(|id| !is_node(id));
        if let Some(gone) = gone {
            let mut voters = self.voters.clone();
            voters.remove(gone);
            return Change::Vote(self.filled(voters));
        }
        let gone: BTreeSet<u64> = self
            .followers
            .iter()
            .filter(|id| !is_node(id))
            .copied()
            .collect();
        if !gone.is_empty() {
            return Change::Leave(gone);
        }
        let known = |id: &&u64| self.followers.contains(id);
        let new: BTreeSet<u64> = self.nodes.keys().filter(|id| !known(id)).copied().collect();
        if !new.is_empty() {
            return Change::Follow(new);
        }
        let voters = self.filled(self.relieved());
        if voters == self.voters {
            return Change::None;
        }
        Change::Vote(voters)
    }

    /// Those who may vote beside these voters, the best first.
    fn ready(&self, voters: &BTreeSet<u64>) -> Vec<u64> {
        let mut ready: Vec<u64> = self.near.difference(voters).copied().collect();
        ready.retain(|id| self.nodes.contains_key(id) && !self.leaving.contains(id));
        ready.sort_by_key(|id| (self.nodes.get(id) != Some(&Role::Witness), *id));
        ready
    }

    /// The voters, with another one in place of one that is to leave; without it where that makes their
    /// number odd.
    fn relieved(&self) -> BTreeSet<u64> {
        let mut voters = self.voters.clone();
        let Some(leaving) = self.voters.intersection(&self.leaving).next() else {
            return voters;
        };
        let other = self.ready(&voters).first().copied();
        if other.is_some() || voters.len().is_multiple_of(2) {
            voters.remove(leaving);
        }
        voters.extend(other);
        voters
    }

    /// The voters with as many more as make an odd number of them.
    fn filled(&self, mut voters: BTreeSet<u64>) -> BTreeSet<u64> {
        let ready = self.ready(&voters);
        let most = (voters.len() + ready.len()).min(VOTERS_MAX);
        let odd = if most.is_multiple_of(2) {
            most.saturating_sub(1)
        } else {
            most
        };
        let missing = odd.saturating_sub(voters.len());
        voters.extend(ready.into_iter().take(missing));
        voters
    }
}

fn electorate(catalog: &Catalog, metrics: &Metrics, is_heard: impl Fn(u64) -> bool) -> Electorate {
    let membership = metrics.membership_config.membership();
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics.replication.iter().flatten();
    let near = matched.filter(|(_, id)| id.is_some_and(|id| id.index + NEAR >= last));
    // Who lacks nothing and is gone would be a voter that must not fail, and has.
    let near = near.filter(|(id, _)| is_heard(**id));
    let nodes = catalog.nodes().filter(|n| n.state != NodeState::Removed);
    let leaving = catalog.nodes().filter(|n| n.state == NodeState::Draining);
    Electorate {
        voters: membership.voter_ids().collect(),
        followers: membership.nodes().map(|(id, _)| *id).collect(),
        near: near.map(|(id, _)| *id).collect(),
        nodes: nodes.map(|n| (u64::from(n.id.0), n.role)).collect(),
        leaving: leaving.map(|n| u64::from(n.id.0)).collect(),
    }
}

impl Member {
    /// Takes the next step, if one is due. Only a leader can.
    pub(super) async fn keep_voters(&self) {
        let catalog = self.shown.catalog.borrow().clone();
        let is_heard = |id| {
            let node = u32::try_from(id).ok().map(NodeId);
            let silent_us = node.and_then(|node| self.silent_us(node));
            silent_us.is_some_and(|us| us < HEARD_US)
        };
        let change = match electorate(&catalog, &self.metrics(), is_heard).next() {
            Change::None => return,
            Change::Follow(ids) => {
                if let Err(e) = self.keep_pace().await {
                    return tracing::error!("the catalog cannot begin again: {e}");
                }
                let nodes = ids.into_iter().map(|id| (id, EmptyNode {})).collect();
                ChangeMembers::AddNodes(nodes)
            }
            Change::Vote(ids) => ChangeMembers::ReplaceAllVoters(ids),
            Change::Leave(ids) => ChangeMembers::RemoveNodes(ids),
        };
        let told = format!("{change:?}");
        let raft = self.raft();
        // Who voted and was not removed goes on as a learner.
        match timeout(CHANGE_TIMEOUT, raft.change_membership(change, true)).await {
            Ok(Ok(_)) => tracing::info!("voters of the catalog: {told}"),
            Ok(Err(e)) => tracing::warn!("voters of the catalog are not changed: {told}: {e}"),
            Err(_) => tracing::warn!("voters of the catalog are not changed yet: {told}"),
        }
    }
}

#[cfg(test)]
mod tests;
