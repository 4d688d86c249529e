//! A walk against the batches that were written, and how often it asks the disk.

use super::*;
use crate::disk::{DiskFile, Mapping};
use crate::log::{LogConfig, ShardLog};
use crate::sim_disk::SimDisk;
use flowstone_wire::{BatchBuilder, Codec, Offset, PartitionId};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file that cannot be mapped and counts what is read of it.
#[derive(Debug)]
struct Counted(Arc<dyn DiskFile>, Arc<AtomicUsize>);

impl DiskFile for Counted {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read_at(at, out)
    }
    fn write_at(&self, at: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.write_at(at, parts)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn drop_cached(&self) -> io::Result<()> {
        self.0.drop_cached()
    }
    fn map(&self) -> io::Result<Mapping> {
        self.0.map()
    }
}

/// A log of one segment with values of these sizes, and the count of what is read of it.
fn filled(sizes: impl Iterator<Item = usize>) -> (ShardLog, Arc<AtomicUsize>) {
    let config = LogConfig {
        segment_bytes: 4 << 20,
        min_free_bytes: 0,
    };
    let (disk, dir) = (Arc::new(SimDisk::default()), Path::new("s"));
    let opened = ShardLog::open(disk, dir, config, Lsn(0), &mut |_, _| {});
    let (mut log, _, _) = opened.unwrap();
    for (n, size) in sizes.enumerate() {
        let mut builder = BatchBuilder::new(Codec::None);
        assert!(builder.push(1, None, Some(&vec![7; size]), &[]));
        log.append(builder.finish(), PartitionId(2000), Offset(n as u64));
    }
    log.flush().unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Counted(log.active.file.clone(), reads.clone());
    log.active.map = Mapping::Copied(Arc::new(counted));
    (log, reads)
}

#[test]
fn a_walk_asks_the_disk_once_for_many_headers() {
    let (mut log, reads) = filled((0..5000).map(|n| n % 200));
    let (count, bytes) = (5000, log.active.end);
    let mut expected = (Lsn(1), 0);
    for batch in log.active.all_headers() {
        let (at, header) = batch.unwrap();
        assert_eq!((header.lsn, at), expected);
        expected = (header.lsn.next(), at + u64::from(header.size));
    }
    assert_eq!(expected, (Lsn(count + 1), bytes));
    // A header that stands across the end of a window begins the next one.
    let windows = bytes.div_ceil(WINDOW_BYTES - HEADER_BYTES as u64) as usize;
    assert!(reads.swap(0, Ordering::Relaxed) <= windows, "{windows}");
    log.pieces(1 << 20).unwrap();
    assert!(reads.swap(0, Ordering::Relaxed) <= windows);
    // The first time everything before is walked, later what is behind the place that was noted.
    log.slices(Lsn(count - 1), Lsn(count)).unwrap();
    assert!(reads.swap(0, Ordering::Relaxed) <= windows + 1);
    log.slices(Lsn(count - 1), Lsn(count)).unwrap();
    assert!(reads.load(Ordering::Relaxed) <= 3);
}

#[test]
fn batches_that_are_larger_than_a_window_are_found() {
    let sizes = [0, 65_000, 65_500, 300_000, 1, 65_400, 65_464, 65_536, 0];
    let (log, _) = filled(sizes.into_iter());
    let found: Vec<u64> = log
        .active
        .all_headers()
        .map(|batch| batch.unwrap().1.lsn.0)
        .collect();
    assert_eq!(found, (1..=sizes.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_walk_ends_with_the_first_thing_that_is_not_the_next_batch() {
    let (log, _) = filled([10, 10, 10].into_iter());
    let mut walk = log.active.headers(Lsn(2), 0);
    assert_eq!(
        walk.next().unwrap().unwrap_err().kind(),
        ErrorKind::InvalidData
    );
    assert!(walk.next().is_none());
    let mut short = log.active.clone();
    short.end -= 1;
    let lsns: Vec<Option<u64>> = short
        .all_headers()
        .map(|batch| batch.ok().map(|(_, h)| h.lsn.0))
        .collect();
    assert_eq!(lsns, [Some(1), Some(2), None]);
}
