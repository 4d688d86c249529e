//! Names of the files and directories of a shard. They carry numbers, never user-given names.
//!
//! ```text
//! DATA/shards/0003/mark
//! DATA/shards/0003/log/<first LSN, 20 digits>.log and .idx, spare
//! DATA/shards/0003/settled/<partition, 10 digits>/<first offset, 20 digits>[-<generation>].seg
//! DATA/shards/0003/state.redb
//! DATA/shards/0003/damaged/...           what was damaged, as it was found
//! DATA/shards/0003/incoming/...          a snapshot of another replica on its way in
//! ```

use crate::settled::SegmentId;
use flowstone_wire::{Lsn, Offset, PartitionId, ShardId};
use std::path::{Path, PathBuf};

/// The version of the layout; a directory of a newer one is refused.
pub const FORMAT_VERSION: u32 = 1;
/// The allocated segment that waits to become active.
pub const SPARE: &str = "spare";
/// A spare that is still being allocated.
pub const SPARE_UNFINISHED: &str = "spare.tmp";
/// The front of a segment that is being cut.
pub const CUT: &str = "cut.tmp";

/// The directory of a shard.
pub fn shard_dir(shard: ShardId) -> PathBuf {
    PathBuf::from(format!("shards/{:04}", shard.0))
}

/// The mark of a shard.
pub fn mark(shard_dir: &Path) -> PathBuf {
    shard_dir.join("mark")
}

/// The directory of a shard's log.
pub fn log_dir(shard_dir: &Path) -> PathBuf {
    shard_dir.join("log")
}

/// The state store of a shard.
pub fn state(shard_dir: &Path) -> PathBuf {
    shard_dir.join("state.redb")
}

/// The directory in which a snapshot is put together; it has the shape of a shard's.
pub fn incoming_dir(shard_dir: &Path) -> PathBuf {
    shard_dir.join("incoming")
}

/// Says that the snapshot is to take the place of what the shard has.
pub fn incoming_ready(shard_dir: &Path) -> PathBuf {
    incoming_dir(shard_dir).join("ready")
}

/// The directory in which damaged bytes are kept.
pub fn damaged_dir(shard_dir: &Path) -> PathBuf {
    shard_dir.join("damaged")
}

/// The file name of damaged bytes of a log segment, from a position on.
pub fn damaged_name(segment: Lsn, position: u64) -> String {
    format!("{:020}-{position}.log", segment.0)
}

/// The file name of a log segment.
pub fn segment_name(first_lsn: Lsn) -> String {
    format!("{:020}.log", first_lsn.0)
}

/// The file name of a log segment's index.
pub fn index_name(first_lsn: Lsn) -> String {
    format!("{:020}.idx", first_lsn.0)
}

/// The first LSN in the name of a log segment.
pub fn parse_segment_name(name: &str) -> Option<Lsn> {
    let lsn = parse_20_digits(name.strip_suffix(".log")?).map(Lsn)?;
    (lsn > Lsn(0)).then_some(lsn)
}

/// The first LSN in the name of an index.
pub fn parse_index_name(name: &str) -> Option<Lsn> {
    parse_20_digits(name.strip_suffix(".idx")?).map(Lsn)
}

fn parse_20_digits(stem: &str) -> Option<u64> {
    if stem.len() != 20 || !stem.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    stem.parse().ok()
}

/// The directory of all settled segments of a shard.
pub fn settled_root(shard_dir: &Path) -> PathBuf {
    shard_dir.join("settled")
}

/// The directory of a partition's settled segments.
pub fn settled_dir(shard_dir: &Path, partition: PartitionId) -> PathBuf {
    settled_root(shard_dir).join(format!("{:010}", partition.0))
}

/// The file name of a settled segment; one that was never rewritten has generation 0.
pub fn settled_name(first_offset: Offset, generation: u32) -> String {
    match generation {
        0 => format!("{:020}.seg", first_offset.0),
        _ => format!("{:020}-{generation}.seg", first_offset.0),
    }
}

/// The file of a settled segment.
pub fn settled_path(shard_dir: &Path, id: SegmentId) -> PathBuf {
    settled_dir(shard_dir, id.partition).join(settled_name(id.first_offset, id.generation))
}

/// The partition in the name of a directory of settled segments.
pub fn parse_settled_dir(name: &str) -> Option<PartitionId> {
    let digits = name.len() == 10 && name.bytes().all(|b| b.is_ascii_digit());
    name.parse().ok().filter(|_| digits).map(PartitionId)
}

/// The first offset and the generation in the name of a settled segment.
pub fn parse_settled_name(name: &str) -> Option<(Offset, u32)> {
    let stem = name.strip_suffix(".seg")?;
    let (offset, generation) = match stem.split_once('-') {
        None => (stem, 0),
        Some((offset, generation)) => (offset, generation.parse().ok().filter(|g| *g > 0)?),
    };
    Some((Offset(parse_20_digits(offset)?), generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_and_parse_back() {
        assert_eq!(parse_segment_name(&segment_name(Lsn(12))), Some(Lsn(12)));
        assert!(segment_name(Lsn(9)) < segment_name(Lsn(10)));
        for bad in [
            "12.log",
            "spare",
            "+0000000000000000012.log",
            "99999999999999999999.log",
        ] {
            assert_eq!(parse_segment_name(bad), None, "{bad}");
        }
    }
}
