//! Writing a settled segment: batches in, one synced file out.

use super::format::{self, BLOCK_BYTES, BlockEntry, BlockHeader, Footer};
use super::{SegmentId, SettledMeta};
use crate::disk::{Disk, DiskFile, remove_if_there};
use crate::error::Error;
use crate::layout;
use flowstone_wire::{BatchHeader, Codec, Lsn, Offset};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Level 1: settling keeps up with the log, the rest is the tier's business.
const ZSTD_LEVEL: i32 = 1;
const SUFFIX_UNFINISHED: &str = "tmp";

/// A settled segment that is being written.
#[derive(Debug)]
pub struct SettledWriter {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    unfinished: PathBuf,
    /// Its directory was made for it.
    dir_is_new: bool,
    compress: bool,
    position: u64,
    block: Vec<u8>,
    /// Offsets and timestamp of the open block.
    open: Option<(Offset, Offset, i64)>,
    index: Vec<BlockEntry>,
    meta: SettledMeta,
}

impl SettledWriter {
    /// Starts a segment; no record lies before its first offset. An unfinished file of the same name,
    /// left by a crash, is replaced.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        id: SegmentId,
        compress: bool,
    ) -> Result<Self, Error> {
        let dir = layout::settled_dir(shard_dir, id.partition);
        let dir_is_new = disk.create_dir(&dir).map_err(Error::io("create", &dir))?;
        let path = layout::settled_path(shard_dir, id);
        let unfinished = path.with_extension(SUFFIX_UNFINISHED);
        remove_if_there(&*disk, &unfinished)?;
        let file = disk
            .create(&unfinished, 0)
            .map_err(Error::io("create", &unfinished))?;
        let meta = SettledMeta {
            partition: id.partition,
            first_offset: id.first_offset,
            next_offset: id.first_offset,
            generation: id.generation,
            clean_at_ms: None,
            records: 0,
            bytes: 0,
            max_timestamp: i64::MIN,
            last_lsn: Lsn(0),
        };
        let mut writer = Self {
            disk,
            file,
            path,
            unfinished,
            dir_is_new,
            compress,
            position: 0,
            block: Vec::with_capacity(BLOCK_BYTES),
            open: None,
            index: Vec::new(),
            meta,
        };
        writer.write(&[&format::file_header(id.partition)])?;
        Ok(writer)
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
        let io = Error::io("write", &self.unfinished);
        self.file.write_at(self.position, &slices).map_err(io)?;
        self.position += parts.iter().map(|p| p.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Adds a whole batch; its offsets are behind the last one's.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn push(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), Error> {
        if self.open.is_some() && self.block.len() + batch.len() > BLOCK_BYTES {
            self.close_block()?;
        }
        self.block.extend_from_slice(batch);
        let (first, _, ts) = self
            .open
            .unwrap_or((header.base_offset, Offset(0), i64::MIN));
        let ts = ts.max(header.max_timestamp());
        self.open = Some((first, header.next_offset(), ts));
        self.meta.next_offset = header.next_offset();
        self.meta.records += u64::from(header.record_count);
        self.meta.max_timestamp = self.meta.max_timestamp.max(ts);
        self.meta.last_lsn = header.lsn;
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), Error> {
        let Some((first_offset, next_offset, max_timestamp)) = self.open.take() else {
            return Ok(());
        };
        let plain = std::mem::take(&mut self.block);
        let packed = self.pack(&plain);
        let (stored, codec) = match &packed {
            Some(packed) => (&packed[..], format::CODEC_ZSTD),
            None => (&plain[..], format::CODEC_PLAIN),
        };
        let header = BlockHeader {
            stored_bytes: stored.len() as u32,
            plain_bytes: plain.len() as u32,
            crc32: crc32fast::hash(stored),
            codec,
        };
        self.index.push(BlockEntry {
            first_offset,
            next_offset,
            max_timestamp,
            position: self.position,
            stored_bytes: header.stored_bytes,
        });
        self.write(&[&header.encode(), stored])?;
        self.block = plain;
        self.block.clear();
        Ok(())
    }

    /// The block in zstd, where that is wanted and makes it smaller.
    fn pack(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let first = BatchHeader::decode(plain).ok()?;
        if !self.compress || first.codec() != Ok(Codec::None) {
            return None;
        }
        let packed = zstd::bulk::compress(plain, ZSTD_LEVEL).ok()?;
        (packed.len() < plain.len()).then_some(packed)
    }

    /// The file while it is being written.
    pub fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Which segment it will be.
    pub fn id(&self) -> SegmentId {
        self.meta.id()
    }

    /// The first offset of its range.
    pub fn first_offset(&self) -> Offset {
        self.meta.first_offset
    }

    /// Offset behind its last record so far.
    pub fn next_offset(&self) -> Offset {
        self.meta.next_offset
    }

    /// Bytes of the file so far, the open block not counted.
    pub fn file_bytes(&self) -> u64 {
        self.position
    }

    /// Closes the file, makes it durable and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<SettledMeta, Error> {
        self.write_end()?;
        self.file
            .sync()
            .map_err(Error::io("sync", &self.unfinished))?;
        self.name()?;
        let levels = if self.dir_is_new { usize::MAX } else { 1 };
        for dir in self.path.ancestors().skip(1).take(levels) {
            self.disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        }
        Ok(self.meta)
    }

    /// Closes the file and gives it its name. None of it is durable before a
    /// [sync point](crate::disk::SyncPoint) that was taken before it was created.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish_unsynced(mut self) -> Result<SettledMeta, Error> {
        self.write_end()?;
        self.name()?;
        Ok(self.meta)
    }

    fn name(&self) -> Result<(), Error> {
        let renamed = self.disk.rename(&self.unfinished, &self.path);
        renamed.map_err(Error::io("rename", &self.path))
    }

    /// Writes the open block, the index and the footer.
    fn write_end(&mut self) -> Result<(), Error> {
        self.close_block()?;
        let index = postcard::to_stdvec(&self.index).map_err(|e| Error::Format {
            path: self.path.clone(),
            what: format!("its block index cannot be encoded: {e}"),
        })?;
        let footer = Footer {
            index_position: self.position,
            index_bytes: index.len() as u32,
            index_crc32: crc32fast::hash(&index),
            first_offset: self.meta.first_offset,
            next_offset: self.meta.next_offset,
            records: self.meta.records,
            max_timestamp: self.meta.max_timestamp,
            last_lsn: self.meta.last_lsn,
        };
        self.write(&[&index, &footer.encode()])?;
        self.meta.bytes = self.position;
        Ok(())
    }
}
