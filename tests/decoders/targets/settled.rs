//! A settled segment: the bytes of a whole file.

use super::disk::{SHARD, put};
use super::{batch, dice, flipped};
use flowstone_storage::settled::{BlockEntry, SegmentId, SettledReader};
use flowstone_storage::{Error, SimDisk, inspect, layout};
use flowstone_wire::{BatchHeader, Offset, PartitionId, batch as batches};
use std::path::{Path, PathBuf};

const PARTITION: PartitionId = PartitionId(1024);
const FOOTER_BYTES: usize = 64;
const HEADER_BYTES: usize = 16;

/// The file as it is, and with the checksums that its blocks, index and footer should have.
pub(super) fn settled(data: &[u8]) {
    one(data);
    let mut file = data.to_vec();
    if repair(&mut file).is_some() {
        one(&file);
    }
}

const ID: SegmentId = SegmentId {
    partition: PARTITION,
    first_offset: Offset(0),
    generation: 0,
};

fn path() -> PathBuf {
    layout::settled_path(Path::new(SHARD), ID)
}

fn open(file: &[u8]) -> (SimDisk, Result<SettledReader, Error>) {
    let disk = SimDisk::default();
    put(&disk, &path(), file);
    let opened = SettledReader::open(&disk, Path::new(SHARD), ID);
    (disk, opened)
}

fn one(file: &[u8]) {
    let (disk, opened) = open(file);
    let reader = match opened {
        Ok(reader) => reader,
        Err(e) => return assert!(matches!(e, Error::Format { .. }), "{e}"),
    };
    for offset in [0, 1, 2, reader.meta().next_offset.0, u64::MAX].map(Offset) {
        // Bytes that do not go on behind the offset would have a reader ask for ever.
        if let Ok((slices, next)) = reader.read(offset, 1000) {
            assert!(
                slices.is_empty() || next > offset,
                "{next} is not behind {offset}"
            );
            slices.iter().for_each(|s| assert!(!s.is_empty()));
        }
    }
    let _ = reader.find_time(reader.meta().max_timestamp);
    let _ = reader.find_time(i64::MAX);
    if reader.verify().is_ok() {
        let bit = dice(file) % (8 * file.len());
        let (_, other) = open(&flipped(file, bit));
        let noticed = other.and_then(|r| r.verify()).is_err();
        assert!(noticed, "bit {bit} is not covered");
    }
    put(&disk, &layout::mark(Path::new(SHARD)), &[0; 8192]);
    let report = inspect::shard(&disk, Path::new(SHARD), true).expect("damage is no error");
    let _ = report.damage();
}

/// Makes all checksums agree, as far as the file is put together at all.
fn repair(file: &mut [u8]) -> Option<()> {
    let footer = file.len().checked_sub(FOOTER_BYTES)?;
    file.get_mut(..HEADER_BYTES)?.fill(0);
    file[..8].copy_from_slice(b"FSS1\x01\0\0\0");
    file[8..12].copy_from_slice(&PARTITION.0.to_le_bytes());
    let at = u64_at(file, footer + 8)?;
    let index = at..footer;
    if let Ok(blocks) = postcard::from_bytes::<Vec<BlockEntry>>(file.get(index.clone())?) {
        for block in blocks {
            repair_block(file, &block);
        }
    }
    let index_crc = crc32fast::hash(&file[index.clone()]);
    file[footer..footer + 4].copy_from_slice(b"FSSF");
    file[footer + 16..footer + 20].copy_from_slice(&(index.len() as u32).to_le_bytes());
    file[footer + 20..footer + 24].copy_from_slice(&index_crc.to_le_bytes());
    let crc = crc32fast::hash(&file[footer + 8..]);
    file[footer + 4..footer + 8].copy_from_slice(&crc.to_le_bytes());
    Some(())
}

fn u64_at(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..at + 8)?.try_into().ok()?;
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

fn repair_block(file: &mut [u8], block: &BlockEntry) -> Option<()> {
    let at = usize::try_from(block.position).ok()?;
    let start = at.checked_add(HEADER_BYTES)?;
    let end = start.checked_add(block.stored_bytes as usize)?;
    let stored = file.get_mut(start..end)?;
    let mut from = 0;
    while let Ok(header) = BatchHeader::decode(&stored[from..]) {
        let Some(bytes) = stored.get_mut(from..from + header.size as usize) else {
            break;
        };
        if batches::verify(bytes).is_err() {
            batch::repair(bytes);
        }
        from += header.size as usize;
    }
    let crc = crc32fast::hash(stored);
    file[at..at + 4].copy_from_slice(&block.stored_bytes.to_le_bytes());
    file[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
    Some(())
}
