//! The properties that every run must have, held against everything that all nodes do.
#![cfg(test)]

use super::catalog::Catalog;
use super::disk::{Disk, chained};
use super::node::Node;
use crate::replica::{LogId, Member, Promise, commit_quorum};
use flowstone_wire::{Epoch, Lsn};
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
pub(super) struct Oracle {
    /// Whether to look at what comes of it only: some bugs are seen at once by whoever looks for them,
    /// and should be seen without, too.
    outcomes_only: bool,
    /// The chain of every entry that ever was.
    chains: HashMap<LogId, u64>,
    /// What was ever committed: the entry at LSN `i + 1`, and its chain.
    committed: Vec<(LogId, u64)>,
    /// For each of them the epoch whose leader committed it; never falls.
    committed_in: Vec<Epoch>,
    /// Who began each epoch.
    begun: BTreeMap<Epoch, usize>,
    /// The last promise of each life.
    promises: HashMap<Member, Epoch>,
}

type Checked = Result<(), String>;

impl Oracle {
    pub(super) fn new(outcomes_only: bool) -> Self {
        Self {
            outcomes_only,
            ..Self::default()
        }
    }

    /// Log matching: an epoch and an LSN name one entry, and all before it.
    pub(super) fn entry(&mut self, node: &Node, lsn: Lsn) -> Checked {
        let Some(entry) = node.disk.entry(lsn) else {
            return Err(format!("driver: node {} has no {lsn}", node.number));
        };
        let (epoch, chain) = (entry.epoch, entry.chain);
        let before = node.disk.chain_at(Lsn(lsn.0 - 1)).unwrap();
        let known = *self.chains.entry(LogId { epoch, lsn }).or_insert(chain);
        if known == chain && chain == chained(before, epoch, entry.content) {
            return Ok(());
        }
        Err(format!(
            "log matching: node {} has another {lsn}@{epoch}",
            node.number
        ))
    }

    /// What a start finds is a log.
    pub(super) fn recovered(&mut self, node: &Node) -> Checked {
        for lsn in node.disk.base.lsn.0 + 1..=node.disk.end().0 {
            self.entry(node, Lsn(lsn))?;
        }
        Ok(())
    }

    /// At most one leader acts in an epoch, and it has everything that was committed before.
    pub(super) fn begins(&mut self, node: &Node, epoch: Epoch) -> Checked {
        let number = node.number;
        if let Some(other) = self.begun.insert(epoch, number) {
            return Err(format!(
                "one leader: {other} and then {number} begin epoch {epoch}"
            ));
        }
        // Of later epochs it knows nothing, if it begins late; it will never be active then.
        let before = self.committed_in.partition_point(|e| *e < epoch);
        let Some((last, chain)) = self.committed[..before].last() else {
            return Ok(());
        };
        match node.disk.chain_at(last.lsn) {
            Some(found) if found == *chain => Ok(()),
            None if node.disk.base.lsn > last.lsn => Ok(()),
            _ => Err(format!(
                "leader completeness: node {number} begins epoch {epoch} without {last}"
            )),
        }
    }

    /// What is committed is what was committed, whole groups, and was on a quorum of an active epoch.
    pub(super) fn commits(
        &mut self,
        node: &Node,
        upto: Lsn,
        led: Option<Epoch>,
        all: &[&Disk],
        catalog: &Catalog,
    ) -> Checked {
        let number = node.number;
        if upto > node.disk.end() {
            return Err(format!("committed <= written: node {number} up to {upto}"));
        }
        if node.disk.entry(upto).is_some_and(|e| !e.ends_group) {
            return Err(format!(
                "groups: node {number} commits a part of one up to {upto}"
            ));
        }
        let known = Lsn(self.committed.len() as u64);
        if upto > known {
            let Some(epoch) = led else {
                return Err(format!(
                    "committed: node {number} knows of {upto} before its leader"
                ));
            };
            if !self.outcomes_only {
                on_quorum(node, upto, epoch, all, catalog)?;
            }
            for lsn in known.0 + 1..=upto.0 {
                let lsn = Lsn(lsn);
                self.committed_in.push(epoch);
                let Some(entry) = node.disk.entry(lsn) else {
                    return Err(format!("driver: node {number} commits {lsn} unseen"));
                };
                let epoch = entry.epoch;
                self.committed.push((LogId { epoch, lsn }, entry.chain));
            }
        }
        self.has_committed(node, upto)
    }

    /// What is at an LSN of a node is what was committed there.
    pub(super) fn has_committed(&self, node: &Node, upto: Lsn) -> Checked {
        let Some(at) = upto.0.checked_sub(1) else {
            return Ok(());
        };
        let (id, chain) = self.committed[at as usize];
        match node.disk.chain_at(upto) {
            Some(found) if found == chain => Ok(()),
            None if node.disk.base.lsn > upto => Ok(()),
            _ => Err(format!(
                "committed stays: node {} has not {id}",
                node.number
            )),
        }
    }

    /// Promised epochs never go down.
    pub(super) fn promises(&mut self, member: Member, promise: Promise) -> Checked {
        let last = self.promises.entry(member).or_default();
        if promise.epoch < *last && !self.outcomes_only {
            return Err(format!(
                "promises: {member} goes from {last} to {}",
                promise.epoch
            ));
        }
        *last = promise.epoch;
        Ok(())
    }

    pub(super) fn committed(&self) -> Lsn {
        Lsn(self.committed.len() as u64)
    }
}

/// Whether an entry is durable on a quorum of the set of its leader's epoch. Those who lost their data
/// since are excused, not those who never had it: their life is still the same.
fn on_quorum(node: &Node, upto: Lsn, epoch: Epoch, all: &[&Disk], catalog: &Catalog) -> Checked {
    let number = node.number;
    if !catalog.activated_us.contains_key(&epoch) {
        return Err(format!(
            "activation: node {number} commits in epoch {epoch}, which is not active"
        ));
    }
    let members = &catalog.epochs[&epoch].members;
    let chain = node.disk.chain_at(upto);
    let has = |m: &&Member| {
        let disk = all[m.node.0 as usize];
        let is_there = disk.durable() >= upto && disk.chain_at(upto) == chain;
        disk.life != m.incarnation || is_there || disk.base.lsn > upto
    };
    let count = members.iter().filter(has).count();
    if count < commit_quorum(members.len()) {
        return Err(format!(
            "quorum: node {number} commits {upto} in epoch {epoch} on {count} of {}",
            members.len()
        ));
    }
    let own = node.disk.entry(upto).map(|e| e.epoch);
    if own.is_some_and(|own| own != epoch) {
        return Err(format!(
            "old epochs: node {number} commits {upto} by counting in epoch {epoch}"
        ));
    }
    Ok(())
}
