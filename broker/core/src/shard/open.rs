//! Opening a shard: the state store first, then the log from where the store ends.

use super::Shard;
use super::control::ControlRecord;
use super::groups::{Groups, Position};
use super::materialize::{Materializer, RowKey, parse_key};
use super::outbound::Outbound;
use super::partition::{Partition, PartitionRow};
use super::producers::{ProducerState, Producers};
use super::tasks::Tasks;
use super::tier::Tier;
use crate::replica::EpochTable;
use flowstone_storage::log::Recovered;
use flowstone_storage::mark::Mark;
use flowstone_storage::{Disk, Error, LogConfig, ShardLog, StateStore};
use flowstone_wire::{BatchHeader, Lsn, Offset, PartitionId, ShardId};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Settings of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    /// Settings of its log.
    pub log: LogConfig,
    /// Bytes of sealed segments that are kept hot before they are settled.
    pub hot_bytes: u64,
    /// How long a write that nobody waits for may go without a sync, in microseconds.
    pub flush_us: u64,
    /// Bytes that may wait for the disk; more is refused.
    pub pending_bytes: u64,
    /// Bytes of log after which the state store is brought up to date.
    pub materialize_bytes: u64,
    /// How often retention is looked at, in microseconds.
    pub retain_every_us: u64,
    /// Whether settled blocks are compressed.
    pub compress: bool,
    /// Whether there is a tier: how old a settled segment that is small becomes before it is uploaded,
    /// in milliseconds. Younger ones may still be put together.
    pub tier_after_ms: Option<u64>,
}

/// What opening a shard gives beside the shard.
#[derive(Debug)]
pub struct ShardStart {
    /// The mark, for the driver to write.
    pub mark: Mark,
    /// What recovery found.
    pub recovered: Recovered,
}

/// What the state store and the log say, put together.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) shard: ShardId,
    pub(super) partitions: BTreeMap<PartitionId, Partition>,
    pub(super) producers: Producers,
    pub(super) groups: Groups,
    pub(super) tasks: Tasks,
    pub(super) outbound: Outbound,
    pub(super) control_next: Offset,
    /// Where each epoch begins.
    pub(super) epochs: EpochTable,
    /// The first row or record that could not be read.
    pub(super) unreadable: Option<String>,
}

impl Shard {
    /// Opens a shard in its directory, recovering what a crash left.
    ///
    /// # Errors
    /// As [`ShardLog::open`], and [`Error::State`], [`Error::Format`] for rows of a newer version.
    pub fn open(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        id: ShardId,
        config: ShardConfig,
        state: &StateStore,
    ) -> Result<(Self, ShardStart), Error> {
        Self::open_as(disk, shard_dir, id, config, state, false)
    }

    /// As [`Self::open`], and goes on where the log has lost something durable, whatever it was: group
    /// positions, producers' sequences and task state of the lost LSNs are lost with it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::State`], [`Error::Format`].
    pub fn salvage(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        id: ShardId,
        config: ShardConfig,
        state: &StateStore,
    ) -> Result<(Self, ShardStart), Error> {
        Self::open_as(disk, shard_dir, id, config, state, true)
    }

    fn open_as(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        id: ShardId,
        config: ShardConfig,
        state: &StateStore,
        salvage: bool,
    ) -> Result<(Self, ShardStart), Error> {
        let mut view = View::of_store(id, state)?;
        view.refuse_unreadable(shard_dir)?;
        let (applied, control) = (state.applied()?, PartitionId::control(id));
        let mut visit = |h: &BatchHeader, b: &bytes::Bytes| view.take_batch(control, h, b);
        let open = if salvage {
            ShardLog::salvage
        } else {
            ShardLog::open
        };
        let (log, mark, recovered) = open(disk, shard_dir, config.log, applied, &mut visit)?;
        view.refuse_unreadable(shard_dir)?;
        view.all_is_durable();
        let shard = Self::of_view(id, config, log, view, state)?;
        Ok((
            shard.with_dirty_partitions(),
            ShardStart { mark, recovered },
        ))
    }

    pub(super) fn of_view(
        id: ShardId,
        config: ShardConfig,
        log: ShardLog,
        view: View,
        state: &StateStore,
    ) -> Result<Self, Error> {
        Ok(Self {
            id,
            config,
            replication: None,
            epochs: view.epochs,
            urgent: log.durable(),
            marked: log.durable(),
            told_written: log.written(),
            log,
            partitions: view.partitions,
            producers: view.producers,
            groups: view.groups,
            tasks: view.tasks,
            outbound: view.outbound,
            materializer: Materializer::new(state.applied()?),
            wait_written: VecDeque::new(),
            wait_durable: VecDeque::new(),
            undurable: VecDeque::new(),
            undurable_bytes: 0,
            sync_by_us: None,
            sync_out: false,
            mark_after_us: 0,
            spare_out: false,
            spare_after_us: 0,
            settle_out: false,
            settle_segments: super::retain::SETTLE_SEGMENTS_MAX,
            rewriting: None,
            rewritten: None,
            rewrite_after_us: 0,
            tier: Tier::default(),
            settled_upto: state.settled_upto()?,
            settle_after_us: 0,
            knows_all: false,
            retain_at_us: 0,
            polls: BTreeMap::new(),
            control_next: view.control_next,
            draining: false,
            drained: false,
            fenced: None,
        })
    }

    /// What was read from the log is not in the state store yet.
    fn with_dirty_partitions(mut self) -> Self {
        for (id, p) in &self.partitions {
            if p.dirty {
                self.materializer.dirty_partition(*id);
            }
        }
        self
    }
}

impl View {
    pub(super) fn of_store(shard: ShardId, state: &StateStore) -> Result<Self, Error> {
        let mut view = Self {
            shard,
            ..Self::default()
        };
        state.load(&mut |key, value| view.take_row(key, value))?;
        for meta in state.settled()? {
            let p = view.partitions.entry(meta.partition).or_default();
            p.settled.push_back(meta);
        }
        for (id, tiered) in state.tiered()? {
            let p = view.partitions.entry(id.partition).or_default();
            p.tiered.insert(id.first_offset, tiered);
        }
        Ok(view)
    }

    /// Nothing of it can vanish.
    pub(super) fn all_is_durable(&mut self) {
        for p in self.partitions.values_mut() {
            p.committed = p.next;
            p.written = p.next;
            p.stored_start = p.start;
        }
    }

    pub(super) fn refuse_unreadable(&self, shard_dir: &Path) -> Result<(), Error> {
        match self.unreadable.clone() {
            None => Ok(()),
            Some(what) => Err(Error::Format {
                path: shard_dir.into(),
                what,
            }),
        }
    }

    fn refuse(&mut self, what: String) {
        self.unreadable.get_or_insert(what);
    }

    fn take_row(&mut self, key: &[u8], value: &[u8]) {
        if self.try_row(key, value).is_none() {
            let shown: String = key.iter().take(24).map(|b| format!("{b:02x}")).collect();
            self.unreadable.get_or_insert(format!(
                "row {shown} of the state store is not of this version"
            ));
        }
    }

    fn try_row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match parse_key(key)? {
            RowKey::Partition(id) => {
                let row: PartitionRow = postcard::from_bytes(value).ok()?;
                let p = self.partitions.entry(id).or_default();
                (p.start, p.next) = (row.start, row.next);
            }
            RowKey::Producer(key) => {
                let state: ProducerState = postcard::from_bytes(value).ok()?;
                self.producers.load(key, state);
            }
            RowKey::Group(key) => {
                let position: Position = postcard::from_bytes(value).ok()?;
                self.groups.load(key, position);
            }
            RowKey::Control => self.control_next = postcard::from_bytes(value).ok()?,
            RowKey::Task(id, key) => self.tasks.load_entry(id, key, value),
            RowKey::Owner => {
                let owner: ShardId = postcard::from_bytes(value).ok()?;
                if owner != self.shard {
                    self.refuse(format!("the state store is that of shard {owner}"));
                }
            }
            RowKey::Gap(id, from) => {
                let to = Offset(u64::from_be_bytes(value.try_into().ok()?));
                let p = self.partitions.entry(id).or_default();
                p.gaps.insert(from, to);
            }
            RowKey::Epochs => {
                self.epochs = postcard::from_bytes(value).ok()?;
                self.epochs.is_sound().then_some(())?;
            }
            RowKey::Lane(id) => {
                let next = u32::from_be_bytes(value.try_into().ok()?);
                self.outbound.load_lane(id, next);
            }
            RowKey::Outbound(id, lsn) => {
                let bytes = bytes::Bytes::copy_from_slice(value);
                self.outbound.load_entry(id, lsn, bytes);
            }
            RowKey::Delta(id, lsn) => self.tasks.load_delta(id, lsn, value.to_vec(), true),
        }
        Some(())
    }

    pub(super) fn take_batch(
        &mut self,
        control: PartitionId,
        header: &BatchHeader,
        bytes: &bytes::Bytes,
    ) {
        let follows = self.epochs.push(header.epoch, header.lsn);
        debug_assert!(follows, "recovery takes rising epochs and LSNs only");
        if header.partition.is_control() && header.partition != control {
            let of = header.partition;
            self.refuse(format!(
                "LSN {} belongs to shard {of}: files were mixed up",
                header.lsn
            ));
        }
        if header.partition != control {
            let p = self.partitions.entry(header.partition).or_default();
            if header.base_offset < p.next {
                let (lsn, partition) = (header.lsn, header.partition);
                self.unreadable.get_or_insert_with(|| format!(
                    "LSN {lsn} starts at offset {} of partition {partition}, which ends at {}: files \
                     were mixed up",
                    header.base_offset, p.next
                ));
            }
            p.next = header.next_offset();
            p.dirty = true;
            self.producers.note(header);
            return;
        }
        self.control_next = header.next_offset();
        if header.producer_id.is_outbound() {
            // A copy: what recovery shows must not be kept.
            let bytes = bytes::Bytes::copy_from_slice(&bytes[..header.size as usize]);
            return self.outbound.take(header, bytes);
        }
        match ControlRecord::from_batch(bytes) {
            Ok(records) => records
                .into_iter()
                .for_each(|r| self.take_control(header.lsn, r)),
            Err(e) => {
                let what = format!(
                    "the internal record at LSN {} cannot be read: {e}",
                    header.lsn
                );
                self.unreadable.get_or_insert(what);
            }
        }
    }

    fn take_control(&mut self, lsn: Lsn, record: ControlRecord) {
        match record {
            ControlRecord::GroupOffsets { group, offsets } => self.groups.note(&group, offsets),
            ControlRecord::TaskDelta { id, delta } => {
                if let Err(e) = self.tasks.take_delta(id, lsn, delta) {
                    self.refuse(format!("the delta at LSN {lsn} cannot be read: {e}"));
                }
            }
            ControlRecord::EpochStart(_) => {}
            ControlRecord::Carried(arrived) => arrived
                .into_iter()
                .for_each(|(lane, upto)| self.outbound.let_go(lane, upto)),
        }
    }
}
