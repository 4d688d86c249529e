//! Where shards are wanted: enough copies, spread over the nodes, none on nodes that leave; leaders, too.

use super::View;
use crate::catalog::{Node, NodeState, Placed, ShardCommand};
use flowstone_wire::{NodeId, ShardId};
use std::collections::BTreeMap;

/// How much each node that takes shards has to do.
struct Load {
    /// Shards that are wanted there.
    shards: BTreeMap<NodeId, usize>,
    /// Shards that it is wanted to lead.
    leads: BTreeMap<NodeId, usize>,
}

impl View<'_> {
    /// The next change of homes: all that are needed; of those for balance one, when nothing else moves.
    pub(super) fn change_homes(&self) -> Vec<ShardCommand> {
        let mut load = self.load();
        let mut needed = Vec::new();
        for (shard, placed) in self.catalog.all_placed() {
            let homes = self.needed_homes(shard, placed, &load);
            if homes != placed.homes {
                load.moved(&placed.homes, &homes);
                needed.push(set_homes(shard, placed, homes));
            }
        }
        if needed.is_empty() && !self.is_moving() {
            needed.extend(self.balance(&load).or_else(|| self.balance_leaders(&load)));
        }
        needed
    }

    fn load(&self) -> Load {
        let takers = self.catalog.nodes().filter(|n| self.is_taker(n));
        let none: BTreeMap<NodeId, usize> = takers.map(|n| (n.id, 0)).collect();
        let mut load = Load {
            shards: none.clone(),
            leads: none,
        };
        for (_, placed) in self.catalog.all_placed() {
            load.moved(&[], &placed.homes);
        }
        load
    }

    /// Whether shards may be given to a node: it belongs to the cluster, and is not away for good.
    fn is_taker(&self, node: &Node) -> bool {
        node.takes_shards() && self.silent_us(node.id) < self.policy().replace_us
    }

    /// Whether a home is left as soon as there is another: its node leaves, or is away for good.
    fn is_left(&self, id: NodeId) -> bool {
        let node = self.catalog.node(id);
        let leaves = node.is_none_or(|n| n.state == NodeState::Draining);
        leaves || self.silent_us(id) >= self.policy().replace_us
    }

    fn needed_homes(&self, shard: ShardId, placed: &Placed, load: &Load) -> Vec<NodeId> {
        let wanted = self.catalog.copies_of(shard).max(1);
        let other = load.idlest(&placed.homes, |n| self.is_heard(*n));
        let mut homes = placed.homes.clone();
        // One at a time: the next look takes the next.
        if let Some(at) = homes.iter().position(|n| self.is_left(*n)) {
            let leaves = self
                .catalog
                .node(homes[at])
                .is_some_and(|n| !n.takes_shards());
            match other {
                Some(other) => homes[at] = other,
                // An operator who drains the last but one wants it so.
                None if leaves && homes.len() > 1 => drop(homes.remove(at)),
                None => {}
            }
        } else if homes.len() > wanted {
            let rest = homes.iter().enumerate().skip(1);
            let most = rest.max_by_key(|(_, n)| load.of(**n));
            let at = most.map_or(0, |(at, _)| at);
            homes.remove(at);
        } else if homes.len() < wanted {
            homes.extend(other);
        }
        homes
    }

    /// Whether some shard is not yet where it is wanted.
    fn is_moving(&self) -> bool {
        self.catalog.all_placed().any(|(_, p)| {
            let members = p.config.members.iter();
            let settled = members.clone().all(|m| p.homes.contains(&m.node));
            let there = p.homes.iter().filter(|n| self.is_heard(**n));
            let mut missing = there.filter(|n| !p.config.members.iter().any(|m| m.node == **n));
            !settled || missing.next().is_some()
        })
    }

    /// A shard goes from the node with the most to the one with the fewest, if they differ by two.
    fn balance(&self, load: &Load) -> Option<ShardCommand> {
        let (fewest, least) = load
            .shards
            .iter()
            .filter(|(n, _)| self.is_heard(**n))
            .min_by_key(|(_, c)| **c)?;
        let (most, count) = load.shards.iter().max_by_key(|(_, c)| **c)?;
        if *count < least + 2 {
            return None;
        }
        let movable = |p: &Placed| p.homes.contains(most) && !p.homes.contains(fewest);
        let (shard, placed) = self.catalog.all_placed().find(|(_, p)| movable(p))?;
        let homes = placed
            .homes
            .iter()
            .map(|n| if n == most { *fewest } else { *n });
        Some(set_homes(shard, placed, homes.collect()))
    }

    /// Of two homes of a shard that lead numbers that differ by two the other one is preferred.
    fn balance_leaders(&self, load: &Load) -> Option<ShardCommand> {
        let lead = |n: &NodeId| load.leads.get(n).copied();
        for (shard, placed) in self.catalog.all_placed() {
            let Some(count) = placed.homes.first().and_then(lead) else {
                continue;
            };
            let others = placed.homes.iter().skip(1).filter(|n| self.is_heard(**n));
            let least = others.filter_map(|n| Some((lead(n)?, *n))).min();
            if let Some((least, node)) = least
                && count >= least + 2
            {
                let rest = placed.homes.iter().copied().filter(|n| *n != node);
                let homes = std::iter::once(node).chain(rest).collect();
                return Some(set_homes(shard, placed, homes));
            }
        }
        None
    }
}

impl Load {
    fn of(&self, node: NodeId) -> usize {
        self.shards.get(&node).copied().unwrap_or(0)
    }

    /// Notes that a shard is wanted elsewhere.
    fn moved(&mut self, was: &[NodeId], homes: &[NodeId]) {
        let counts = |all: &mut BTreeMap<NodeId, usize>, nodes: &[NodeId], more: bool| {
            for node in nodes {
                if let Some(count) = all.get_mut(node) {
                    *count = if more {
                        *count + 1
                    } else {
                        count.saturating_sub(1)
                    };
                }
            }
        };
        counts(&mut self.shards, was, false);
        counts(&mut self.shards, homes, true);
        counts(&mut self.leads, &was[..was.len().min(1)], false);
        counts(&mut self.leads, &homes[..homes.len().min(1)], true);
    }

    /// The node with the fewest shards, apart from these.
    fn idlest(&self, but: &[NodeId], may: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let others = self
            .shards
            .iter()
            .filter(|(n, _)| !but.contains(n) && may(n));
        others
            .min_by_key(|(n, count)| (**count, **n))
            .map(|(n, _)| *n)
    }
}

fn set_homes(shard: ShardId, placed: &Placed, homes: Vec<NodeId>) -> ShardCommand {
    ShardCommand::SetHomes {
        shard,
        was: placed.homes.clone(),
        homes,
    }
}
