//! The state of the stages: ordered keys and values with an undo journal for the current unit.
//!
//! Writes go straight into the maps, so that reads and scans need no merging; the journal keeps what
//! they replaced until the unit (one record or timer) is committed or rolled back.
//!
//! ```text
//! put/delete --> maps        commit unit:  forget the journal
//!            \-> journal     roll back:    play the journal backwards
//!            \-> changed     end of step:  changed keys --> delta, dirty
//! ```

mod evict;

use crate::sizes::Sizes;
use crate::spilled::{Place, Spilled};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};

/// What an entry is taken to cost beside its bytes: map node, vectors, flags.
pub(crate) const ENTRY_COST_BYTES: usize = 64;
/// What a change is taken to cost in a delta beside its bytes.
const CHANGE_COST_BYTES: usize = 16;
/// Replaced values kept for the next writes.
const SPARE_MAX: usize = 16;
/// Larger buffers are not kept.
const SPARE_BYTES_MAX: usize = 4 << 10;
/// Most entries that are read at once for a scan.
const SCAN_MOST: usize = 2048;

#[derive(Debug)]
struct Slot {
    value: Vec<u8>,
    /// The step that last wrote it; if it is the current one, `changed` has the key.
    step: u64,
    /// Whether `dirty` has the key for certain.
    dirty: bool,
    /// It was asked for since somebody last looked for what can be let go.
    used: Cell<bool>,
}

impl Slot {
    fn new(value: Vec<u8>, step: u64, dirty: bool) -> Self {
        Self {
            value,
            step,
            dirty,
            used: Cell::new(true),
        }
    }
}

/// State of one stage.
#[derive(Debug, Default)]
struct Stage {
    entries: BTreeMap<Vec<u8>, Slot>,
    spilled: Spilled<Vec<u8>>,
}

#[derive(Debug)]
struct Undo {
    node: u16,
    /// In `undo_keys`.
    key: Range<usize>,
    old: Option<Slot>,
    /// `dirty` has the key because of this.
    marked: bool,
}

/// A key touched in this step. The first one of a key says whether it was there before the step.
#[derive(Debug)]
struct Changed {
    node: u16,
    key: Vec<u8>,
    existed: bool,
}

/// State of all stages of a task, by the number of their node.
#[derive(Debug)]
pub(crate) struct Store {
    stages: Vec<Stage>,
    sizes: Sizes,
    step: u64,
    undo: Vec<Undo>,
    undo_keys: Vec<u8>,
    changed: Vec<Changed>,
    /// Length of `changed` at the start of the unit.
    changed_mark: usize,
    change_bytes: usize,
    /// `change_bytes` at the start of the unit.
    change_bytes_mark: usize,
    dirty: BTreeSet<(u16, Vec<u8>)>,
    /// What may be let go; `None` where there is no store outside that has it.
    outside: Option<evict::Outside>,
    spare: Vec<Vec<u8>>,
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_COST_BYTES
}

impl Store {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            stages: (0..nodes).map(|_| Stage::default()).collect(),
            sizes: Sizes::default(),
            step: 1,
            undo: Vec::new(),
            undo_keys: Vec::new(),
            changed: Vec::new(),
            changed_mark: 0,
            change_bytes: 0,
            change_bytes_mark: 0,
            dirty: BTreeSet::new(),
            outside: None,
            spare: Vec::new(),
        }
    }

    pub(crate) fn get(&self, node: u16, key: &[u8]) -> Option<&[u8]> {
        let Some(slot) = self.stages[usize::from(node)].entries.get(key) else {
            self.look_for(node, key);
            return None;
        };
        slot.used.set(true);
        Some(&slot.value)
    }

    /// Entries of a stage whose keys start with `prefix`, in the order of their keys.
    pub(crate) fn scan<'s>(
        &'s self,
        node: u16,
        prefix: &'s [u8],
    ) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + use<'s> {
        self.scan_from(node, prefix, prefix)
    }

    /// Those of them whose keys are `from` or behind it.
    pub(crate) fn scan_from<'s>(
        &'s self,
        node: u16,
        prefix: &'s [u8],
        from: &'s [u8],
    ) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + use<'s> {
        let stage = &self.stages[usize::from(node)];
        let unknown = self.first_unknown(node, prefix, from);
        let end = match &unknown {
            Some((at, _)) => Bound::Excluded(at.clone()),
            None => Bound::Unbounded,
        };
        let known = stage
            .entries
            .range::<[u8], _>((Bound::Included(from), end.as_ref().map(|at| &at[..])))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, slot)| {
                slot.used.set(true);
                (&key[..], &slot.value[..])
            });
        known.chain(std::iter::from_fn(move || {
            // Whoever comes this far wants what is not here.
            if let Some((from, to)) = &unknown {
                stage.spilled.miss(from.clone(), to.clone(), SCAN_MOST);
            }
            None
        }))
    }

    /// The first part of a scan that it cannot be told from memory.
    fn first_unknown(&self, node: u16, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let spilled = &self.stages[usize::from(node)].spilled;
        if spilled.is_empty() {
            return None;
        }
        spilled.first_unknown(&from.to_vec(), behind_prefix(prefix).as_ref())
    }

    /// Notes what is not in memory where the store outside may have it.
    #[inline]
    fn look_for(&self, node: u16, key: &[u8]) {
        let spilled = &self.stages[usize::from(node)].spilled;
        if spilled.is_empty() {
            return;
        }
        let key = key.to_vec();
        if spilled.is_unknown(&key) && !self.has_changed(node, &key) {
            let behind = key.behind();
            spilled.miss(key, behind, 1);
        }
    }

    /// Cost of the entries of a stage in memory whose keys begin with this byte.
    pub(crate) fn size_bytes_of(&self, node: u16, first: u8) -> usize {
        self.sizes.of(node, first)
    }

    /// Cost of all entries in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.sizes.total()
    }

    /// Cost of the changes of this step, repeated ones counted again.
    pub(crate) fn change_bytes(&self) -> usize {
        self.change_bytes
    }

    /// Cost of the changes of this unit.
    pub(crate) fn unit_change_bytes(&self) -> usize {
        self.change_bytes - self.change_bytes_mark
    }

    pub(crate) fn put(&mut self, node: u16, key: &[u8], value: &[u8]) {
        let entries = &mut self.stages[usize::from(node)].entries;
        let old = match entries.get_mut(key) {
            Some(slot) if slot.value == value => return,
            Some(slot) => {
                let fresh = Slot::new(copy(&mut self.spare, value), self.step, slot.dirty);
                Some(std::mem::replace(slot, fresh))
            }
            None => {
                let slot = Slot::new(copy(&mut self.spare, value), self.step, false);
                entries.insert(key.to_vec(), slot);
                // Whether it was there before decides what is undone, and what a delta says.
                self.look_for(node, key);
                None
            }
        };
        self.sizes.add(node, key, cost(key, value));
        self.change_bytes += key.len() + value.len() + CHANGE_COST_BYTES;
        self.record(node, key, old, false);
    }

    pub(crate) fn delete(&mut self, node: u16, key: &[u8]) {
        let Some(old) = self.stages[usize::from(node)].entries.remove(key) else {
            return self.look_for(node, key);
        };
        // It is not to be looked for outside, where it still is.
        let is_new = self.outside.is_some() && !old.dirty;
        let marked = is_new && self.dirty.insert((node, key.to_vec()));
        self.change_bytes += key.len() + CHANGE_COST_BYTES;
        self.record(node, key, Some(old), marked);
    }

    fn record(&mut self, node: u16, key: &[u8], old: Option<Slot>, marked: bool) {
        if let Some(old) = &old {
            self.sizes.sub(node, key, cost(key, &old.value));
        }
        if old.as_ref().is_none_or(|slot| slot.step != self.step) {
            self.changed.push(Changed {
                node,
                key: key.to_vec(),
                existed: old.is_some(),
            });
        }
        let start = self.undo_keys.len();
        self.undo_keys.extend_from_slice(key);
        self.undo.push(Undo {
            node,
            key: start..self.undo_keys.len(),
            old,
            marked,
        });
    }

    /// The changes of the unit count.
    #[inline]
    pub(crate) fn commit_unit(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        for undo in self.undo.drain(..) {
            if let Some(slot) = undo.old
                && self.spare.len() < SPARE_MAX
                && slot.value.capacity() <= SPARE_BYTES_MAX
            {
                self.spare.push(slot.value);
            }
        }
        self.undo_keys.clear();
        self.changed_mark = self.changed.len();
        self.change_bytes_mark = self.change_bytes;
    }

    /// The changes of the unit never were.
    pub(crate) fn roll_back_unit(&mut self) {
        while let Some(undo) = self.undo.pop() {
            let key = &self.undo_keys[undo.key];
            if undo.marked {
                self.dirty.remove(&(undo.node, key.to_vec()));
            }
            let entries = &mut self.stages[usize::from(undo.node)].entries;
            if let Some(slot) = &undo.old {
                self.sizes.add(undo.node, key, cost(key, &slot.value));
            }
            let replaced = match undo.old {
                Some(slot) => entries.insert(key.to_vec(), slot),
                None => entries.remove(key),
            };
            if let Some(slot) = replaced {
                self.sizes.sub(undo.node, key, cost(key, &slot.value));
            }
        }
        self.undo_keys.clear();
        self.changed.truncate(self.changed_mark);
        self.change_bytes = self.change_bytes_mark;
    }

    /// Ends the step: hands out every key that it changed, with its value now.
    pub(crate) fn finish_step(&mut self, mut each: impl FnMut(u16, Vec<u8>, Option<Vec<u8>>)) {
        let mut changed = std::mem::take(&mut self.changed);
        // Stable, so that the first entry of a key stays first and is the one that is kept.
        changed.sort_by(|a, b| (a.node, &a.key).cmp(&(b.node, &b.key)));
        changed.dedup_by(|b, a| a.node == b.node && a.key == b.key);
        for Changed { node, key, existed } in changed.drain(..) {
            let value = self.mark_dirty(node, &key, existed);
            if value.is_some() || existed {
                each(node, key, value);
            }
        }
        self.changed = changed;
        self.changed_mark = 0;
        self.change_bytes = 0;
        self.change_bytes_mark = 0;
        self.step += 1;
    }

    fn mark_dirty(&mut self, node: u16, key: &[u8], existed: bool) -> Option<Vec<u8>> {
        match self.stages[usize::from(node)].entries.get_mut(key) {
            Some(slot) => {
                if !slot.dirty {
                    slot.dirty = true;
                    self.dirty.insert((node, key.to_vec()));
                }
                Some(slot.value.clone())
            }
            None => {
                if existed {
                    self.dirty.insert((node, key.to_vec()));
                }
                None
            }
        }
    }

    /// Replays a change.
    pub(crate) fn apply(&mut self, node: u16, key: &[u8], value: Option<&[u8]>) {
        self.note_blind(node, key);
        self.replace(node, key, value, true);
        self.dirty.insert((node, key.to_vec()));
    }

    /// Takes over an entry from outside; it is not dirty.
    pub(crate) fn load(&mut self, node: u16, key: &[u8], value: &[u8]) {
        self.replace(node, key, Some(value), false);
    }

    fn replace(&mut self, node: u16, key: &[u8], value: Option<&[u8]>, dirty: bool) {
        let entries = &mut self.stages[usize::from(node)].entries;
        let old = match value {
            Some(value) => {
                self.sizes.add(node, key, cost(key, value));
                entries.insert(key.to_vec(), Slot::new(value.to_vec(), 0, dirty))
            }
            None => entries.remove(key),
        };
        if let Some(old) = old {
            self.sizes.sub(node, key, cost(key, &old.value));
        }
    }

    /// The keys that changed since the last call, with their values now.
    pub(crate) fn take_dirty(&mut self, mut each: impl FnMut(u16, &[u8], Option<&[u8]>)) {
        let dirty = std::mem::take(&mut self.dirty);
        for (node, key) in &dirty {
            match self.stages[usize::from(*node)].entries.get_mut(&key[..]) {
                Some(slot) => {
                    slot.dirty = false;
                    each(*node, key, Some(&slot.value));
                }
                None => each(*node, key, None),
            }
        }
        if let Some(outside) = &mut self.outside {
            outside.on_its_way(dirty);
        }
    }

    /// Every entry of every stage that is in memory.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
        self.stages.iter().zip(0u16..).flat_map(|(stage, node)| {
            stage
                .entries
                .iter()
                .map(move |(key, slot)| (node, &key[..], &slot.value[..]))
        })
    }
}

/// What stands behind all keys that start with `prefix`; `None` where nothing can.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

fn copy(spare: &mut Vec<Vec<u8>>, value: &[u8]) -> Vec<u8> {
    let mut fresh = spare.pop().unwrap_or_default();
    fresh.clear();
    fresh.extend_from_slice(value);
    fresh
}

#[cfg(test)]
mod tests;
