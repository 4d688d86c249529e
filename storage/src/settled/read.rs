//! Reading a settled segment, block by block, every checksum checked.

use super::format::{self, BlockEntry, BlockHeader, Footer};
use super::{SegmentId, SettledMeta};
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::layout;
use bytes::Bytes;
use flowstone_wire::{BatchHeader, Offset, PartitionId, batch};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open settled segment.
#[derive(Debug)]
pub struct SettledReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    meta: SettledMeta,
    index: Vec<BlockEntry>,
}

impl SettledReader {
    /// Opens a segment; checks header, footer and index.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`].
    pub fn open(disk: &dyn Disk, shard_dir: &Path, id: SegmentId) -> Result<Self, Error> {
        let path = layout::settled_path(shard_dir, id);
        let reader = Self::open_path(disk, &path, id.partition)?;
        if reader.meta.first_offset != id.first_offset {
            let what = format!("it starts with offset {}", reader.meta.first_offset);
            return Err(reader.bad(&what));
        }
        Ok(reader)
    }

    /// Opens a settled segment by its path.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`].
    pub fn open_path(disk: &dyn Disk, path: &Path, partition: PartitionId) -> Result<Self, Error> {
        let file = disk.open(path).map_err(Error::io("open", path))?;
        Self::of_file(file, path, partition)
    }

    /// Opens a settled segment that is not on a disk of its own, such as one in the tier; `path` is
    /// for messages.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`].
    pub fn over(file: Arc<dyn DiskFile>, path: &Path, id: SegmentId) -> Result<Self, Error> {
        let mut reader = Self::of_file(file, path, id.partition)?;
        if reader.meta.first_offset != id.first_offset {
            let what = format!("it starts with offset {}", reader.meta.first_offset);
            return Err(reader.bad(&what));
        }
        reader.meta.generation = id.generation;
        Ok(reader)
    }

    fn of_file(
        file: Arc<dyn DiskFile>,
        path: &Path,
        partition: PartitionId,
    ) -> Result<Self, Error> {
        let bad = |what: &str| Error::Format {
            path: path.into(),
            what: what.into(),
        };
        let io = |e| Error::io("read", path)(e);
        let bytes = file.len().map_err(io)?;
        let least = (format::FILE_HEADER_BYTES + format::FOOTER_BYTES) as u64;
        if bytes < least {
            return Err(bad("it is too short"));
        }
        let mut front = [0; format::FILE_HEADER_BYTES];
        file.read_at(0, &mut front).map_err(io)?;
        if front != format::file_header(partition) {
            return Err(bad(
                "its header is not a settled segment's of this partition and version",
            ));
        }
        let mut end = [0; format::FOOTER_BYTES];
        file.read_at(bytes - format::FOOTER_BYTES as u64, &mut end)
            .map_err(io)?;
        let footer = Footer::decode(&end).map_err(bad)?;
        let index_end = footer
            .index_position
            .checked_add(u64::from(footer.index_bytes));
        if footer.index_bytes > format::INDEX_BYTES_MAX
            || index_end != Some(bytes - format::FOOTER_BYTES as u64)
        {
            return Err(bad("its block index is not where its footer says"));
        }
        let mut index = vec![0; footer.index_bytes as usize];
        file.read_at(footer.index_position, &mut index)
            .map_err(io)?;
        if crc32fast::hash(&index) != footer.index_crc32 {
            return Err(bad("the checksum of its block index does not agree"));
        }
        let index: Vec<BlockEntry> = match postcard::take_from_bytes(&index) {
            Ok((index, [])) => index,
            _ => return Err(bad("its block index is not valid")),
        };
        if !is_possible(&index, &footer) {
            return Err(bad("its blocks do not stand back to back, in order"));
        }
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let meta = SettledMeta {
            partition,
            first_offset: footer.first_offset,
            next_offset: footer.next_offset,
            generation: layout::parse_settled_name(name).map_or(0, |(_, generation)| generation),
            clean_at_ms: None,
            records: footer.records,
            bytes,
            max_timestamp: footer.max_timestamp,
            last_lsn: footer.last_lsn,
        };
        Ok(Self {
            file,
            path: path.into(),
            meta,
            index,
        })
    }

    /// What the footer says.
    pub fn meta(&self) -> &SettledMeta {
        &self.meta
    }

    /// The blocks.
    pub fn blocks(&self) -> &[BlockEntry] {
        &self.index
    }

    /// Reads whole batches from the one that holds `offset`: at most `max_bytes`, at least one batch.
    /// Returns them back to back and the offset behind them.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] where a checksum does not agree: nothing wrong is served.
    pub fn read(&self, offset: Offset, max_bytes: usize) -> Result<(Vec<Bytes>, Offset), Error> {
        let (mut slices, mut left, mut next) = (Vec::new(), max_bytes, offset);
        let from = self.index.partition_point(|b| b.next_offset <= offset);
        for entry in &self.index[from..] {
            let block = match self.block(entry) {
                Ok(block) => block,
                // What lies before it is good.
                Err(_) if !slices.is_empty() => break,
                // Nothing is known of what could not be asked for.
                Err(e) if e.is_unreachable() => return Err(e),
                Err(e) => {
                    let (from, to) = (entry.first_offset, entry.next_offset);
                    return Err(self.bad(&format!(
                        "offsets {from} to {} are damaged, read on from {to}: {e}",
                        to.0.saturating_sub(1)
                    )));
                }
            };
            let (start, end, behind) = self.part_of(&block, next, left, slices.is_empty())?;
            if end > start {
                slices.push(block.slice(start..end));
                next = behind;
            }
            left = left.saturating_sub(end - start);
            if end < block.len() || left == 0 {
                break;
            }
        }
        Ok((slices, next))
    }

    /// The stretch of a block that starts with the batch that holds `offset`.
    fn part_of(
        &self,
        block: &[u8],
        offset: Offset,
        left: usize,
        is_first: bool,
    ) -> Result<(usize, usize, Offset), Error> {
        let (mut at, mut start, mut end, mut next) = (0, None, 0, offset);
        while at < block.len() {
            let header = BatchHeader::decode(&block[at..]).map_err(|e| self.bad(&e.to_string()))?;
            let behind = at + header.size as usize;
            if behind > block.len() {
                return Err(self.bad("a batch goes beyond its block"));
            }
            if header.next_offset() > offset {
                let start = *start.get_or_insert(at);
                if behind - start > left && !(is_first && start == at) {
                    break;
                }
                (end, next) = (behind, header.next_offset());
            }
            at = behind;
        }
        Ok((start.unwrap_or(end).min(end), end, next))
    }

    /// The plain bytes of a block.
    fn block(&self, entry: &BlockEntry) -> Result<Bytes, Error> {
        let io = |e| Error::io("read", &self.path)(e);
        let mut front = [0; format::BLOCK_HEADER_BYTES];
        self.file.read_at(entry.position, &mut front).map_err(io)?;
        let header = BlockHeader::decode(&front);
        if header.stored_bytes != entry.stored_bytes
            || header.stored_bytes as usize > format::BLOCK_BYTES_MAX
            || header.plain_bytes as usize > format::BLOCK_BYTES_MAX
        {
            return Err(self.bad("a block header does not agree with the index"));
        }
        let mut stored = vec![0; header.stored_bytes as usize];
        let at = entry.position + format::BLOCK_HEADER_BYTES as u64;
        self.file.read_at(at, &mut stored).map_err(io)?;
        if crc32fast::hash(&stored) != header.crc32 {
            let first = entry.first_offset;
            return Err(self.bad(&format!(
                "the checksum of the block at offset {first} fails"
            )));
        }
        let plain = match header.codec {
            format::CODEC_PLAIN => Bytes::from(stored),
            format::CODEC_ZSTD => zstd::bulk::decompress(&stored, header.plain_bytes as usize)
                .map(Bytes::from)
                .map_err(|_| self.bad("a block does not decompress"))?,
            _ => return Err(self.bad("a block has an unknown codec")),
        };
        if plain.len() != header.plain_bytes as usize {
            return Err(self.bad("a block is not as long as its header says"));
        }
        Ok(plain)
    }

    /// The batches of a block, proven.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn batches(&self, entry: &BlockEntry) -> Result<Vec<Bytes>, Error> {
        let block = self.block(entry)?;
        let (mut at, mut all) = (0, Vec::new());
        while at < block.len() {
            let header = batch::verify(&block[at..]).map_err(|e| self.bad(&e.to_string()))?;
            let end = at + header.size as usize;
            all.push(block.slice(at..end));
            at = end;
        }
        Ok(all)
    }

    pub(super) fn bad(&self, what: &str) -> Error {
        Error::Format {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// The offset of the first record at or after `timestamp`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn find_time(&self, timestamp: i64) -> Result<Option<Offset>, Error> {
        match self.index.iter().find(|b| b.max_timestamp >= timestamp) {
            Some(entry) => Ok(batch::find_time(&self.block(entry)?, timestamp)),
            None => Ok(None),
        }
    }

    /// The offsets of blocks that cannot be read: the first one and the one behind the last.
    pub fn damaged_blocks(&self) -> Vec<(Offset, Offset)> {
        let bad = self.index.iter().filter(|entry| match self.block(entry) {
            Ok(block) => !is_whole(&block),
            Err(_) => true,
        });
        bad.map(|b| (b.first_offset, b.next_offset)).collect()
    }

    /// Reads everything and checks every checksum and that offsets only rise.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] with the first thing that is wrong.
    pub fn verify(&self) -> Result<(), Error> {
        let mut next = self.meta.first_offset;
        for entry in &self.index {
            let block = self.block(entry)?;
            let mut at = 0;
            while at < block.len() {
                let header = batch::verify(&block[at..]).map_err(|e| self.bad(&e.to_string()))?;
                if header.partition != self.meta.partition {
                    return Err(self.bad(&format!("it has a batch of {}", header.partition)));
                }
                if header.base_offset < next {
                    return Err(self.bad(&format!("offset {} comes twice", header.base_offset)));
                }
                next = header.next_offset();
                at += header.size as usize;
            }
        }
        if next != self.meta.next_offset {
            return Err(self.bad("its last offset is not the one in its footer"));
        }
        Ok(())
    }
}

fn is_whole(block: &[u8]) -> bool {
    let mut at = 0;
    while at < block.len() {
        match batch::verify(&block[at..]) {
            Ok(header) => at += header.size as usize,
            Err(_) => return false,
        }
    }
    true
}

/// Whether these blocks fill the file up to the index, with offsets that only rise: readers find their
/// way by them, and no byte lies outside of a checksum.
fn is_possible(blocks: &[BlockEntry], footer: &Footer) -> bool {
    let (mut position, mut offset) = (format::FILE_HEADER_BYTES as u64, footer.first_offset);
    for block in blocks {
        let follows = block.position == position
            && block.first_offset >= offset
            && block.next_offset > block.first_offset;
        if !follows {
            return false;
        }
        // Both are below the size of a file, or the next comparison fails.
        position += format::BLOCK_HEADER_BYTES as u64 + u64::from(block.stored_bytes);
        offset = block.next_offset;
    }
    position == footer.index_position && offset == footer.next_offset
}
