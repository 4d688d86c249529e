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

#[derive(Debug)]
struct Slot {
    value: Vec<u8>,
    /// The step that last wrote it; if it is the current one, `changed` has the key.
    step: u64,
    /// Whether `dirty` has the key for certain.
    dirty: bool,
}

#[derive(Debug)]
struct Undo {
    node: u16,
    /// In `undo_keys`.
    key: Range<usize>,
    old: Option<Slot>,
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
    stages: Vec<BTreeMap<Vec<u8>, Slot>>,
    size_bytes: usize,
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
    spare: Vec<Vec<u8>>,
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_COST_BYTES
}

impl Store {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            stages: (0..nodes).map(|_| BTreeMap::new()).collect(),
            size_bytes: 0,
            step: 1,
            undo: Vec::new(),
            undo_keys: Vec::new(),
            changed: Vec::new(),
            changed_mark: 0,
            change_bytes: 0,
            change_bytes_mark: 0,
            dirty: BTreeSet::new(),
            spare: Vec::new(),
        }
    }

    pub(crate) fn get(&self, node: u16, key: &[u8]) -> Option<&[u8]> {
        let slot = self.stages[usize::from(node)].get(key)?;
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
        self.stages[usize::from(node)]
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, slot)| (&key[..], &slot.value[..]))
    }

    /// Cost of all entries in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
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
        let stage = &mut self.stages[usize::from(node)];
        let old = match stage.get_mut(key) {
            Some(slot) if slot.value == value => return,
            Some(slot) => {
                let fresh = Slot {
                    value: copy(&mut self.spare, value),
                    step: self.step,
                    dirty: slot.dirty,
                };
                Some(std::mem::replace(slot, fresh))
            }
            None => {
                let slot = Slot {
                    value: copy(&mut self.spare, value),
                    step: self.step,
                    dirty: false,
                };
                stage.insert(key.to_vec(), slot);
                None
            }
        };
        self.size_bytes += cost(key, value);
        self.change_bytes += key.len() + value.len() + CHANGE_COST_BYTES;
        self.record(node, key, old);
    }

    pub(crate) fn delete(&mut self, node: u16, key: &[u8]) {
        let Some(old) = self.stages[usize::from(node)].remove(key) else {
            return;
        };
        self.change_bytes += key.len() + CHANGE_COST_BYTES;
        self.record(node, key, Some(old));
    }

    fn record(&mut self, node: u16, key: &[u8], old: Option<Slot>) {
        if let Some(old) = &old {
            self.size_bytes -= cost(key, &old.value);
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
            let stage = &mut self.stages[usize::from(undo.node)];
            if let Some(slot) = &undo.old {
                self.size_bytes += cost(key, &slot.value);
            }
            let replaced = match undo.old {
                Some(slot) => stage.insert(key.to_vec(), slot),
                None => stage.remove(key),
            };
            if let Some(slot) = replaced {
                self.size_bytes -= cost(key, &slot.value);
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
        match self.stages[usize::from(node)].get_mut(key) {
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
        self.replace(node, key, value, true);
        self.dirty.insert((node, key.to_vec()));
    }

    /// Takes over an entry from outside; it is not dirty.
    pub(crate) fn load(&mut self, node: u16, key: &[u8], value: &[u8]) {
        self.replace(node, key, Some(value), false);
    }

    fn replace(&mut self, node: u16, key: &[u8], value: Option<&[u8]>, dirty: bool) {
        let stage = &mut self.stages[usize::from(node)];
        let old = match value {
            Some(value) => {
                self.size_bytes += cost(key, value);
                let slot = Slot {
                    value: value.to_vec(),
                    step: 0,
                    dirty,
                };
                stage.insert(key.to_vec(), slot)
            }
            None => stage.remove(key),
        };
        if let Some(old) = old {
            self.size_bytes -= cost(key, &old.value);
        }
    }

    /// The keys that changed since the last call, with their values now.
    pub(crate) fn take_dirty(&mut self, mut each: impl FnMut(u16, &[u8], Option<&[u8]>)) {
        for (node, key) in std::mem::take(&mut self.dirty) {
            match self.stages[usize::from(node)].get_mut(&key[..]) {
                Some(slot) => {
                    slot.dirty = false;
                    each(node, &key, Some(&slot.value));
                }
                None => each(node, &key, None),
            }
        }
    }

    /// Every entry of every stage.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
        self.stages.iter().zip(0u16..).flat_map(|(stage, node)| {
            stage
                .iter()
                .map(move |(key, slot)| (node, &key[..], &slot.value[..]))
        })
    }
}

fn copy(spare: &mut Vec<Vec<u8>>, value: &[u8]) -> Vec<u8> {
    let mut fresh = spare.pop().unwrap_or_default();
    fresh.clear();
    fresh.extend_from_slice(value);
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Put(u8, u8),
        Delete(u8),
        Commit,
        RollBack,
        FinishStep,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0u8..6, any::<u8>()).prop_map(|(k, v)| Op::Put(k, v)),
            2 => (0u8..6).prop_map(Op::Delete),
            2 => Just(Op::Commit),
            1 => Just(Op::RollBack),
            1 => Just(Op::FinishStep),
        ]
    }

    fn content(store: &Store) -> BTreeMap<u8, u8> {
        store.iter().map(|(_, k, v)| (k[0], v[0])).collect()
    }

    #[test]
    fn a_scan_begins_at_its_place_and_ends_with_its_prefix() {
        let mut store = Store::new(1);
        for key in ["a", "b", "b1", "b3", "b3x", "c"] {
            store.put(0, key.as_bytes(), b"");
        }
        let from = |from: &str| -> Vec<String> {
            let entries = store.scan_from(0, b"b", from.as_bytes());
            entries
                .map(|(k, _)| String::from_utf8_lossy(k).into_owned())
                .collect()
        };
        assert_eq!(from("b"), ["b", "b1", "b3", "b3x"]);
        assert_eq!(from("b2"), ["b3", "b3x"]);
        assert_eq!(from("b4"), [""; 0]);
    }

    proptest! {
        /// Against a plain map that is copied at every commit.
        #[test]
        fn undo_deltas_dirt_and_size_agree_with_a_model(ops in prop::collection::vec(op(), 0..80)) {
            let (mut store, mut replayed) = (Store::new(1), Store::new(1));
            let (mut model, mut committed) = (BTreeMap::new(), BTreeMap::new());
            let mut outside = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Put(k, v) => {
                        store.put(0, &[k], &[v]);
                        model.insert(k, v);
                    }
                    Op::Delete(k) => {
                        store.delete(0, &[k]);
                        model.remove(&k);
                    }
                    Op::Commit => {
                        store.commit_unit();
                        committed = model.clone();
                    }
                    Op::RollBack => {
                        store.roll_back_unit();
                        model = committed.clone();
                    }
                    Op::FinishStep => {
                        store.roll_back_unit();
                        model = committed.clone();
                        store.finish_step(|n, k, v| replayed.apply(n, &k, v.as_deref()));
                        prop_assert_eq!(content(&replayed), model.clone());
                        prop_assert_eq!(replayed.size_bytes(), store.size_bytes());
                        store.take_dirty(|_, k, v| match v {
                            Some(v) => drop(outside.insert(k[0], v[0])),
                            None => drop(outside.remove(&k[0])),
                        });
                        prop_assert_eq!(&outside, &model);
                    }
                }
                prop_assert_eq!(content(&store), model.clone());
            }
        }
    }

    #[test]
    fn what_came_and_went_within_a_step_is_in_no_delta() {
        let mut store = Store::new(1);
        store.put(0, b"k", b"v");
        store.commit_unit();
        store.delete(0, b"k");
        store.commit_unit();
        store.finish_step(|_, key, _| panic!("{key:?}"));
        store.take_dirty(|_, key, _| panic!("{key:?}"));
    }

    #[test]
    fn what_was_undone_is_in_no_delta() {
        let mut store = Store::new(1);
        store.load(0, b"k", b"old");
        store.put(0, b"k", b"new");
        store.put(0, b"other", b"new");
        store.roll_back_unit();
        store.finish_step(|_, key, _| panic!("{key:?}"));
        assert_eq!(store.get(0, b"k"), Some(&b"old"[..]));
    }
}
