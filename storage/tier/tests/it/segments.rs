//! Settled segments and tiers to try them with.

use crate::faults::Faulty;
use flowstone_storage::SimDisk;
use flowstone_storage::disk::{Disk, DiskFile};
use flowstone_storage::layout;
use flowstone_storage::settled::{SegmentId, SettledMeta, SettledReader, SettledWriter};
use flowstone_tier::{Settings, Tier};
use flowstone_wire::{BatchBuilder, Codec, Epoch, Lsn, Offset, PartitionId, batch::Stamp};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

pub(crate) const P: PartitionId = PartitionId(1024);

/// A settled segment on a disk of its own.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) disk: SimDisk,
    pub(crate) meta: SettledMeta,
}

impl Segment {
    /// A segment of the offsets from `first` to `next`, with `value_bytes` each that do not compress.
    pub(crate) fn make(first: u64, next: u64, generation: u32, value_bytes: usize) -> Self {
        Self::of(P, first, next, generation, value_bytes)
    }

    pub(crate) fn of(
        partition: PartitionId,
        first: u64,
        next: u64,
        generation: u32,
        value_bytes: usize,
    ) -> Self {
        let disk = SimDisk::default();
        let id = SegmentId {
            partition,
            first_offset: Offset(first),
            generation,
        };
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut writer = SettledWriter::create(shared, Path::new("s"), id, true).unwrap();
        let mut noise = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for offset in first..next {
            let mut batch = BatchBuilder::new(Codec::None);
            let mut value = vec![0; value_bytes];
            for byte in &mut value {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = (noise >> 56) as u8;
            }
            assert!(batch.push(offset as i64, None, Some(&value), &[]));
            let (header, bytes) = batch.finish().stamp(Stamp {
                partition,
                base_offset: Offset(offset),
                lsn: Lsn(offset + 1),
                epoch: Epoch(1),
            });
            writer.push(&header, &bytes).unwrap();
        }
        let meta = writer.finish().unwrap();
        Self { disk, meta }
    }

    pub(crate) fn file(&self) -> Arc<dyn DiskFile> {
        let path = layout::settled_path(Path::new("s"), self.meta.id());
        self.disk.open(&path).unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let path = layout::settled_path(Path::new("s"), self.meta.id());
        self.disk.bytes_of(&path).unwrap()
    }

    pub(crate) fn reader(&self) -> SettledReader {
        SettledReader::open(&self.disk, Path::new("s"), self.meta.id()).unwrap()
    }
}

/// Small sizes, so that little data goes many ways.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::at("s3://test");
    settings.part_bytes = 4096;
    settings.chunk_bytes = 1000;
    settings.cache_bytes = 1 << 20;
    settings.retry_for_ms = 0;
    settings
}

pub(crate) async fn tier(store: &Faulty, dir: &Path) -> Arc<Tier> {
    tier_with(store, dir, settings()).await
}

pub(crate) async fn tier_with(store: &Faulty, dir: &Path, settings: Settings) -> Arc<Tier> {
    let store = Arc::new(store.clone());
    Tier::over(store, "pre/fix", settings, dir, Handle::current())
        .await
        .unwrap()
}
