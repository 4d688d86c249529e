//! Which chunks are kept, and which goes next: pure code.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What is known of a chunk that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) bytes: u64,
    pub(crate) crc32: u32,
}

/// Chunks by their last use, bounded by the sum of their bytes.
#[derive(Debug)]
pub(crate) struct Lru<K> {
    bytes_max: u64,
    bytes: u64,
    /// Number of the next use.
    tick: u64,
    kept: HashMap<K, (Kept, u64)>,
    /// By number of the last use; the same keys as in `kept`.
    order: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash> Lru<K> {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            tick: 0,
            kept: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.kept.contains_key(key)
    }

    /// Finds a chunk, which counts as a use.
    pub(crate) fn get(&mut self, key: &K) -> Option<Kept> {
        let (kept, used) = self.kept.get_mut(key)?;
        self.order.remove(used);
        *used = self.tick;
        self.order.insert(self.tick, key.clone());
        self.tick += 1;
        Some(*kept)
    }

    /// Keeps a chunk, and gives those that must go for it; itself, where it alone is too large.
    pub(crate) fn insert(&mut self, key: K, kept: Kept) -> Vec<K> {
        self.remove(&key);
        self.bytes += kept.bytes;
        self.kept.insert(key.clone(), (kept, self.tick));
        self.order.insert(self.tick, key);
        self.tick += 1;
        let mut gone = Vec::new();
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.first_key_value().map(|(_, k)| k.clone()) else {
                break;
            };
            self.remove(&oldest);
            gone.push(oldest);
        }
        gone
    }

    /// Forgets a chunk; whether it was there.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let Some((kept, used)) = self.kept.remove(key) else {
            return false;
        };
        self.order.remove(&used);
        self.bytes -= kept.bytes;
        true
    }

    /// The chunks for which `is_wanted` holds.
    pub(crate) fn keys(&self, is_wanted: impl Fn(&K) -> bool) -> Vec<K> {
        self.kept.keys().filter(|k| is_wanted(k)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_keeps_what_was_used_last_within_its_bound(
            uses in proptest::collection::vec((0u8..12, 1u64..40, any::<bool>()), 0..120),
        ) {
            let mut lru = Lru::new(100);
            let mut model: Vec<(u8, u64)> = Vec::new();
            for (key, bytes, reads) in uses {
                let at = model.iter().position(|(k, _)| *k == key);
                if reads {
                    prop_assert_eq!(lru.get(&key).map(|k| k.bytes), at.map(|i| model[i].1));
                    if let Some(i) = at {
                        let used = model.remove(i);
                        model.push(used);
                    }
                    continue;
                }
                at.map(|i| model.remove(i));
                model.push((key, bytes));
                let mut gone = Vec::new();
                while model.iter().map(|(_, b)| b).sum::<u64>() > 100 {
                    gone.push(model.remove(0).0);
                }
                prop_assert_eq!(lru.insert(key, Kept { bytes, crc32: 0 }), gone);
                prop_assert_eq!(lru.bytes(), model.iter().map(|(_, b)| b).sum::<u64>());
                prop_assert_eq!(lru.order.len(), model.len());
            }
        }
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut lru = Lru::new(10);
        assert_eq!(
            lru.insert(
                'a',
                Kept {
                    bytes: 11,
                    crc32: 0
                }
            ),
            ['a']
        );
        assert_eq!((lru.bytes(), lru.contains(&'a')), (0, false));
    }
}
