//! Inputs as short text for the trace.

use crate::host::Job;
use flowstone_core::output::TierJob;
use flowstone_core::{Input, Parcel};
use flowstone_processor::Found;
use flowstone_wire::ProducerId;

pub(crate) fn of(input: &Input) -> String {
    match input {
        Input::Replica(_) => unreachable!("every shard is its only copy"),
        Input::Produce {
            ticket,
            partition,
            batch,
            acks,
        } => {
            let h = batch.header();
            format!(
                "produce {ticket:?} {partition} {} records {} bytes {}.{}.{} {acks:?}",
                h.record_count, h.size, h.producer_id, h.producer_epoch, h.base_sequence
            )
        }
        Input::Deliver { ticket, batch } => {
            let h = batch.header();
            format!(
                "deliver {ticket:?} {} records {} bytes {}",
                h.record_count,
                h.size,
                of_place(h.producer_id, h.base_sequence)
            )
        }
        Input::Carried { lane, lsn, result } => {
            let result = result.as_ref().map_err(|failure| failure.code);
            format!("carried {} LSN {lsn} {result:?}", of_place(*lane, 0))
        }
        Input::Fetch {
            ticket,
            partition,
            offset,
            max_bytes,
            wait_ms,
        } => {
            format!("fetch {ticket:?} {partition} {offset} {max_bytes} bytes {wait_ms} ms")
        }
        Input::FindOffset {
            ticket,
            partition,
            place,
        } => {
            format!("find {ticket:?} {partition} {place:?}")
        }
        Input::CommitOffsets {
            ticket,
            group,
            offsets,
        } => {
            let all: Vec<u64> = offsets.iter().map(|o| o.offset.0).collect();
            format!("commit {ticket:?} {group} {all:?}")
        }
        Input::ReadOffsets { ticket, group, .. } => format!("read group {ticket:?} {group}"),
        Input::ListGroups { ticket } => format!("list groups {ticket:?}"),
        Input::Status { ticket } => format!("status {ticket:?}"),
        Input::OpenPartition { partition, .. } => format!("open {partition}"),
        Input::ClosePartition { partition } => format!("close {partition}"),
        Input::StartTask(config) => format!("start task {}", config.id),
        Input::StopTask { id } => format!("stop task {id}"),
        Input::ForgetTasks { known, below } => {
            format!("of the tasks below {below} these are all: {known:?}")
        }
        Input::Turn => "turn".into(),
        Input::Tick => "tick".into(),
        Input::Synced { upto, result } => format!("synced {upto} {result:?}"),
        Input::Spare(result) => format!("spare {:?}", result.as_ref().err()),
        Input::Materialized { upto, result } => format!("materialized {upto} {result:?}"),
        Input::Rewritten(Ok(done)) => {
            let added: Vec<_> = done.added.iter().map(|m| m.id()).collect();
            format!("rewritten {:?} as {added:?}", done.removed)
        }
        Input::Rewritten(Err(e)) => format!("not rewritten: {e}"),
        Input::Settled(Ok((metas, upto))) => {
            let of = |m: &flowstone_storage::settled::SettledMeta| {
                format!("{} {}..{}", m.partition, m.first_offset, m.next_offset)
            };
            format!(
                "settled {:?} upto {upto}",
                metas.iter().map(of).collect::<Vec<_>>()
            )
        }
        Input::Settled(Err(e)) => format!("not settled: {e}"),
        Input::TaskBatches {
            id,
            partition,
            result,
        } => {
            let bytes = result
                .as_ref()
                .map(|all| all.iter().map(|b| b.len()).sum::<usize>());
            format!("task batches {id} {partition} {bytes:?}")
        }
        Input::StateRead { id, result } => {
            let entries = |found: &Vec<Found>| found.iter().map(|f| f.entries.len()).sum::<usize>();
            format!("state of {id} read {:?}", result.as_ref().map(entries))
        }
        Input::FoundInTier { partition, .. } => format!("found in the tier of {partition}"),
        Input::Tiered {
            partition,
            start,
            result,
        } => match result {
            Ok(notes) => format!("tiered {partition} from {start} copies {}", notes.len()),
            Err(e) => format!("not tiered {partition}: {e}"),
        },
        Input::ReadGone { why, .. } => format!("gone: {why}"),
        Input::Drain => "drain".into(),
    }
}

pub(crate) fn of_job(job: &Job) -> String {
    match job {
        Job::Sync(job) => format!("sync {}", job.upto),
        Job::Spare(..) => "allocate spare".into(),
        Job::Materialize {
            changes,
            upto,
            clean,
        } => {
            format!(
                "materialize {} rows upto {upto}, clean {clean}",
                changes.len()
            )
        }
        Job::Mark(durable) => format!("mark {durable}"),
        Job::Settle(_, paths) => format!("settle {} segments", paths.len()),
        Job::Rewrite(_) => "rewrite".into(),
        Job::DropSettled(gone) => format!("drop {gone:?}"),
        Job::Tier(job) | Job::Tiered(job, _) => of_tier_job(job),
        Job::ForgetLocal(notes) => {
            let ids: Vec<_> = notes.iter().map(|(id, _)| id).collect();
            format!("forget {ids:?}")
        }
        Job::RemoveFiles(paths) => format!("remove {} files", paths.len()),
        Job::Read { ticket, offset, .. } => format!("read {ticket:?} {offset}"),
        Job::FindTime {
            ticket, timestamp, ..
        } => format!("find time {ticket:?} {timestamp}"),
        Job::ReadForTask { id, offset, .. } => format!("read for task {id} {offset}"),
        Job::ReadState { id, wanted } => format!("read {} of the state of {id}", wanted.len()),
    }
}

fn of_tier_job(job: &TierJob) -> String {
    let (upload, keep) = (job.upload.len(), job.keep.len());
    let (partition, start) = (job.partition, job.start);
    format!("tier {partition} from {start} uploads {upload} keeps {keep}")
}

pub(crate) fn of_parcel(parcel: &Parcel) -> String {
    let h = parcel.batch.header();
    format!(
        "carry {} LSN {} records {}",
        of_place(parcel.lane, h.base_sequence),
        parcel.lsn,
        h.record_count
    )
}

/// A lane and a sequence of it.
fn of_place(lane: ProducerId, sequence: u32) -> String {
    let (pipeline, partition) = (lane.outbound_pipeline(), lane.outbound_partition());
    let shard = lane.0 >> 32 & 0x3ff;
    format!("{pipeline}:{shard}>{partition}.{sequence}")
}
