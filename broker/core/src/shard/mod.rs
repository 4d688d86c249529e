//! The shard: one log, its partitions, groups, producers and tasks, as one state machine.
//!
//! ```text
//!            Produce            Turn                 Synced
//! request ----------> staged ----------> written ----------> durable = committed (one replica)
//!                       |                   |                    |
//!                    tasks run          acks written        acks durable,
//!                  on it in memory      readers of          readers of committed topics,
//!                                     written topics        state store
//! ```

mod commit;
mod control;
mod fetch;
mod gone;
mod groups;
mod materialize;
mod open;
mod outbound;
mod partition;
mod produce;
mod producers;
mod replication;
mod retain;
mod rewrite;
mod status;
mod tasks;
mod tier;

pub use fetch::Where;
pub use materialize::{gap_row, group_row, partition_row};
pub use open::{ShardConfig, ShardStart};
pub use outbound::Parcel;
pub use replication::{ReplicaOptions, snapshot_id};
pub use tasks::read_state;

use crate::input::{Input, Now, Ticket};
use crate::output::{Outbox, Output, Reply};
use crate::replica::EpochTable;
use flowstone_storage::ShardLog;
use flowstone_wire::{ErrorCode, Failure, Lsn, Offset, PartitionId, ShardId};
use groups::Groups;
use materialize::Materializer;
use outbound::Outbound;
use partition::Partition;
use producers::Producers;
use replication::Replication;
use std::collections::{BTreeMap, VecDeque};
use tasks::Tasks;
use tier::Tier;

/// A request that is answered when the log has reached an LSN.
#[derive(Debug)]
struct Waiting {
    lsn: Lsn,
    ticket: Ticket,
    reply: Reply,
}

/// A batch that is not visible to readers of committed topics yet.
#[derive(Debug)]
struct Undurable {
    lsn: Lsn,
    partition: PartitionId,
    next_offset: Offset,
    bytes: u32,
}

/// A shard. See the module docs for the life of a record and the crate docs for the driver's part.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    config: ShardConfig,
    /// `None` if this is the only copy.
    replication: Option<Box<Replication>>,
    log: ShardLog,
    /// Where each epoch begins, as far as the view goes.
    epochs: EpochTable,
    partitions: BTreeMap<PartitionId, Partition>,
    producers: Producers,
    groups: Groups,
    tasks: Tasks,
    outbound: Outbound,
    materializer: Materializer,
    /// Answered when their LSN is written. In order of LSN.
    wait_written: VecDeque<Waiting>,
    /// Answered when their LSN is durable. In order of LSN.
    wait_durable: VecDeque<Waiting>,
    /// The written LSN of which those who wait for it were told. `told_written <= log.written()`.
    told_written: Lsn,
    /// Batches above the durable LSN. In order of LSN.
    undurable: VecDeque<Undurable>,
    undurable_bytes: u64,
    /// Somebody waits for the durable LSN to reach this.
    urgent: Lsn,
    /// When the oldest undurable batch must be synced although nobody waits.
    sync_by_us: Option<u64>,
    sync_out: bool,
    /// The mark says at least this, or will.
    marked: Lsn,
    /// Before this it is not written again.
    mark_after_us: u64,
    spare_out: bool,
    /// After a full disk no new segment is asked for before this.
    spare_after_us: u64,
    settle_out: bool,
    /// Segments settled in one go, at most.
    settle_segments: usize,
    /// What is being rewritten.
    rewriting: Option<PartitionId>,
    /// The partition that was rewritten last: they take turns.
    rewritten: Option<PartitionId>,
    /// After a rewriting that failed the next is not tried before this.
    rewrite_after_us: u64,
    tier: Tier,
    settled_upto: Lsn,
    /// Every partition that exists was opened. Before that nothing is settled: what is not known would
    /// look like what was deleted.
    knows_all: bool,
    /// After a settling that failed the next is not tried before this.
    settle_after_us: u64,
    /// When retention is looked at next.
    retain_at_us: u64,
    /// Long polls, by the time they give up. The partition holds the waiter itself.
    polls: BTreeMap<(u64, Ticket), PartitionId>,
    /// Next offset of the internal partition.
    control_next: Offset,
    draining: bool,
    drained: bool,
    fenced: Option<String>,
}

impl Shard {
    /// Takes one input. See the crate docs for the contract.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Outbox) {
        if let Some(input) = self.allowed(input, out) {
            self.take(now, input, out);
        }
        self.withhold(now, out);
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Outbox) {
        match input {
            Input::Replica(input) => self.step_replica(now, input, out),
            Input::Produce {
                ticket,
                partition,
                batch,
                acks,
            } => {
                self.produce(now, ticket, partition, batch, acks, out);
            }
            Input::Deliver { ticket, batch } => self.deliver(now, ticket, batch, out),
            Input::Turn => self.turn(now, out),
            Input::Fetch {
                ticket,
                partition,
                offset,
                max_bytes,
                wait_ms,
            } => {
                let want = fetch::Want {
                    ticket,
                    offset,
                    max_bytes,
                    until_us: 0,
                };
                self.fetch(now, partition, want, wait_ms, out);
            }
            Input::FindOffset {
                ticket,
                partition,
                place,
            } => self.find_offset(ticket, partition, place, out),
            Input::CommitOffsets {
                ticket,
                group,
                offsets,
            } => self.commit_offsets(now, ticket, group, offsets, out),
            Input::ReadOffsets {
                ticket,
                group,
                partitions,
            } => self.read_offsets(ticket, &group, &partitions, out),
            Input::ReadGone { read, why } => self.read_gone(now, *read, why, out),
            Input::ListGroups { ticket } => {
                out.reply(ticket, Ok(Reply::Groups(self.groups.names())))
            }
            Input::Status { ticket } => self.status(ticket, out),
            Input::OpenPartition { partition, config } => self.open_partition(partition, config),
            Input::ClosePartition { partition } => self.close_partition(partition, out),
            Input::StartTask(config) => self.start_task(now, *config, out),
            Input::StopTask { id } => self.tasks.stop(id),
            Input::ForgetTasks { known, below } => self.forget_tasks(&known, below),
            Input::Tick => self.tick(now, out),
            Input::Drain => self.drain(out),
            done @ (Input::Synced { .. }
            | Input::Spare(_)
            | Input::Materialized { .. }
            | Input::Settled(_)
            | Input::TaskBatches { .. }
            | Input::StateRead { .. }
            | Input::Rewritten(_)
            | Input::Tiered { .. }
            | Input::FoundInTier { .. }
            | Input::Carried { .. }) => self.take_done(now, done, out),
        }
    }

    /// Takes in what came of work that an output had asked for.
    fn take_done(&mut self, now: Now, input: Input, out: &mut Outbox) {
        match input {
            Input::Synced { upto, result } => self.synced(now, upto, result, out),
            Input::Spare(result) => {
                self.spare(now, result);
                self.finish_drain(out);
            }
            Input::Materialized { upto, result } => self.materialized(upto, result, out),
            Input::Settled(result) => self.settled(now, result, out),
            Input::TaskBatches {
                id,
                partition,
                result,
            } => {
                self.tasks.give_cold(now, id, partition, result);
            }
            Input::StateRead { id, result } => self.state_read(now, id, result, out),
            Input::Rewritten(result) => self.rewritten(now, result, out),
            Input::Tiered {
                partition,
                start,
                result,
            } => self.tiered(now, partition, start, result, out),
            Input::FoundInTier { partition, result } => {
                self.found_in_tier(now, partition, result, out);
            }
            Input::Carried { lane, lsn, result } => self.carried(now, lane, lsn, result, out),
            other => unreachable!("`step` handles {other:?}"),
        }
    }

    /// When to step [`Input::Tick`], in microseconds of [`Now::mono_us`].
    pub fn deadline(&self) -> Option<u64> {
        if self.fenced.is_some() {
            // Only those who wait for something to read are still answered.
            return self.polls.first_key_value().map(|((at, _), _)| *at);
        }
        if self.has_ended() {
            return None;
        }
        let poll = self.polls.first_key_value().map(|((at, _), _)| *at);
        let retain = (!self.draining).then_some(self.retain_at_us);
        let works = !self.draining && self.leads();
        let tasks = works.then(|| self.tasks.deadline_us()).flatten();
        // The answer to a sync that is out asks for the next one.
        let idle = !self.is_held_up();
        let sync = self.sync_by_us.filter(|_| !self.sync_out && idle);
        let mark = (self.marked < self.log.durable() && idle).then_some(self.mark_after_us);
        let carries = works && self.knows_all;
        let carry = carries.then(|| self.outbound.deadline_us()).flatten();
        let replica = self.replica().and_then(|r| r.deadline());
        [poll, sync, mark, retain, tasks, carry, replica]
            .into_iter()
            .flatten()
            .min()
    }

    /// The shard's number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The log, for those who only look.
    pub fn log(&self) -> &ShardLog {
        &self.log
    }

    /// Whether so much waits for the disk that a driver should take nothing new from producers until
    /// the next sync: past twice this they are refused.
    pub fn pressed(&self) -> bool {
        let takes = self.fenced.is_none() && !self.gave_up();
        takes && self.undurable_bytes > self.config.pending_bytes / 2
    }

    /// Why the shard takes nothing any more, if so.
    pub fn fenced(&self) -> Option<&str> {
        self.fenced.as_deref()
    }

    /// Processes and writes what was staged, and asks for the work that follows from it.
    fn turn(&mut self, now: Now, out: &mut Outbox) {
        if self.fenced.is_none() && self.leads() {
            self.record_arrived(now, out);
            self.run_tasks(now, out);
            self.flush(now, out);
            if self.tasks.any_ready() {
                // A task that was behind reads what has only now been written.
                self.run_tasks(now, out);
                self.flush(now, out);
            }
            self.carry(now, out);
        }
        self.ask_for_sync(now, out);
        self.ask_for_mark(now, out);
        self.ask_for_spare(now, out);
        self.ask_for_materialize(out);
        self.ask_for_settle(now, out);
        self.finish_drain(out);
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        self.tick_replica(now, out);
        self.end_polls(now, out);
        self.tasks.wake_due(now);
        if now.mono_us >= self.retain_at_us {
            self.retain_at_us = now.mono_us + self.config.retain_every_us;
            self.retain(now, out);
            self.ask_for_rewrite(now, out);
            self.forget_local(now, out);
            self.ask_for_tier(now, out);
        }
        if self.sync_by_us.is_some_and(|by| now.mono_us >= by) {
            self.urgent = self.log.written();
        }
        self.turn(now, out);
    }

    /// Stops taking anything: an error of the disk means that what is in memory and what is on the
    /// disk may differ, and only a restart that reads the disk can tell.
    fn fence(&mut self, reason: String, out: &mut Outbox) {
        if self.fenced.is_some() {
            return;
        }
        let failure = fenced_failure(&reason);
        for waiting in self
            .wait_written
            .drain(..)
            .chain(self.wait_durable.drain(..))
        {
            out.reply(waiting.ticket, Err(failure.clone()));
        }
        out.push(Output::Fenced(reason.clone()));
        self.fenced = Some(reason);
        self.fence_replica(out);
    }

    /// Whether the shard can take a change now.
    fn check_open(&self) -> Result<(), Failure> {
        if let Some(reason) = &self.fenced {
            return Err(fenced_failure(reason));
        }
        if self.draining {
            return Err(Failure::new(
                ErrorCode::ShuttingDown,
                "the broker is shutting down",
            ));
        }
        Ok(())
    }
}

fn fenced_failure(reason: &str) -> Failure {
    let what = format!("the shard stopped after a disk error and needs a restart: {reason}");
    Failure::new(ErrorCode::ShardFenced, what)
}

fn unknown_partition(partition: PartitionId) -> Failure {
    let what = format!("there is no partition {partition} here; read the topic's partitions again");
    Failure::new(ErrorCode::UnknownPartition, what)
}

#[cfg(test)]
mod tests;
