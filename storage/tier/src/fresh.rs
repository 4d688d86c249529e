//! Chunks that were fetched ahead and that nobody has read yet, in memory: pure code.

use crate::chunk_store::ChunkKey;
use bytes::Bytes;
use std::collections::VecDeque;

/// All of them together. Beyond it the oldest go: they are on the disk, too.
const BYTES_MAX: usize = 32 << 20;

/// Chunks for readers that are about to come, which saves them a way over the disk.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// The newest at the end. Few: they are searched one by one.
    chunks: VecDeque<(ChunkKey, Bytes)>,
    bytes: usize,
}

impl Fresh {
    pub(crate) fn add(&mut self, key: ChunkKey, bytes: Bytes) {
        self.take(&key);
        self.bytes += bytes.len();
        self.chunks.push_back((key, bytes));
        while self.bytes > BYTES_MAX
            && let Some((_, old)) = self.chunks.pop_front()
        {
            self.bytes -= old.len();
        }
    }

    pub(crate) fn contains(&self, key: &ChunkKey) -> bool {
        self.chunks.iter().any(|(k, _)| k == key)
    }

    /// A chunk for its reader; whoever comes after that finds it on the disk.
    pub(crate) fn take(&mut self, key: &ChunkKey) -> Option<Bytes> {
        let at = self.chunks.iter().position(|(k, _)| k == key)?;
        let (_, bytes) = self.chunks.remove(at)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }

    pub(crate) fn drop_all(&mut self, of_it: impl Fn(&ChunkKey) -> bool) {
        self.chunks.retain(|(key, _)| !of_it(key));
        self.bytes = self.chunks.iter().map(|(_, bytes)| bytes.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{ObjectId, TierEpoch};
    use flowstone_wire::{Offset, PartitionId};

    fn key(partition: u32, chunk: u64) -> ChunkKey {
        let id = ObjectId {
            first_offset: Offset(0),
            generation: 0,
            epoch: TierEpoch(1),
        };
        ChunkKey {
            partition: PartitionId(partition),
            id,
            chunk,
        }
    }

    #[test]
    fn each_is_taken_once_and_the_oldest_make_room() {
        let mut fresh = Fresh::default();
        let chunk = Bytes::from(vec![7; BYTES_MAX / 4]);
        for n in 0..5 {
            fresh.add(key(1, n), chunk.clone());
        }
        assert_eq!(fresh.take(&key(1, 0)), None, "there was no room for it");
        assert_eq!(fresh.take(&key(1, 4)), Some(chunk.clone()));
        assert_eq!(fresh.take(&key(1, 4)), None);
        assert_eq!(fresh.bytes, 3 * chunk.len());
        fresh.add(key(1, 3), chunk.clone());
        assert_eq!(fresh.bytes, 3 * chunk.len(), "it was there already");
        fresh.add(key(2, 3), chunk.clone());
        fresh.drop_all(|k| k.partition == PartitionId(1));
        assert_eq!((fresh.chunks.len(), fresh.bytes), (1, chunk.len()));
        fresh.add(key(2, 9), Bytes::from(vec![7; BYTES_MAX + 1]));
        assert_eq!((fresh.chunks.len(), fresh.bytes), (0, 0));
    }
}
