//! Opening a shard that is one of several copies.

use super::doubt::Doubt;
use super::{Replication, Role};
use crate::replica::{
    EpochTable, Limits, LogId, Member, Outbox, Promise, Replica, ReplicaStart, Span,
};
use crate::shard::Shard;
use crate::shard::materialize::EPOCHS_KEY;
use crate::shard::open::{ShardConfig, ShardStart, View};
use flowstone_storage::log::{Recovered, RecoveryNote};
use flowstone_storage::mark::{Mark, ReplicaMark};
use flowstone_storage::state::StatePicture;
use flowstone_storage::{Disk, Error, ShardLog, StateStore};
use flowstone_wire::{Epoch, Incarnation, Lsn, NodeId, ShardId};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// What a replica must know beside the settings of its shard.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaOptions {
    /// This node.
    pub node: NodeId,
    /// A number that no life of a replica had before: taken if this one's data has lost something, or
    /// has no life yet. Not 0.
    pub fresh_life: Incarnation,
    /// Bounds of the replica.
    pub limits: Limits,
}

impl Shard {
    /// Opens a shard that is one of several copies, as a follower; a log that had no other copies is
    /// taken over as it is.
    ///
    /// # Errors
    /// As [`Shard::open`].
    pub fn open_replica(
        disk: Arc<dyn Disk>,
        shard_dir: &Path,
        id: ShardId,
        config: ShardConfig,
        state: &StateStore,
        options: ReplicaOptions,
    ) -> Result<(Self, ShardStart), Error> {
        let mut view = View::of_store(id, state)?;
        view.refuse_unreadable(shard_dir)?;
        let applied = state.applied()?;
        // What is above is not known to be committed: it comes into the view when it is.
        let (log, mut mark, recovered) =
            ShardLog::open(disk, shard_dir, config.log, applied, &mut |_, _| {})?;
        view.all_is_durable();
        let (kept, committed) =
            keep_life(&mut mark, &recovered, &log, applied, options.fresh_life)?;
        let replica =
            replica_of(id, &log, &view.epochs, (kept, committed), options).map_err(|what| {
                Error::Format {
                    path: shard_dir.into(),
                    what,
                }
            })?;
        let mut shard = Self::of_view(id, config, log, view, state)?;
        shard.replication = Some(Box::new(Replication {
            replica,
            role: Role::Follower,
            viewed: applied,
            told: shard.log.written(),
            doubt: Doubt::GaveUp,
            withheld: VecDeque::new(),
            to_cut: None,
            cutting: false,
            ending: None,
            to_tell: VecDeque::new(),
            telling: false,
            said: Outbox::default(),
        }));
        Ok((shard, ShardStart { mark, recovered }))
    }
}

/// Which life this is, and what is known to be committed.
fn keep_life(
    mark: &mut Mark,
    recovered: &Recovered,
    log: &ShardLog,
    applied: Lsn,
    fresh: Incarnation,
) -> Result<(ReplicaMark, Lsn), Error> {
    let found = mark.state();
    let lost = !recovered.holes.is_empty() || recovered.notes.contains(&RecoveryNote::MarkLost);
    let is_first_start = found.starts == 1;
    // Without other copies what is durable is committed. A mark that is gone looks like a first start.
    let was_alone = found.replica.life == Incarnation(0) && !is_first_start && !lost;
    let committed = if was_alone { log.durable() } else { applied };
    let mut kept = found.replica;
    if lost || kept.life == Incarnation(0) {
        kept.life = fresh;
        mark.keep(kept)?;
    }
    Ok((kept, committed))
}

fn replica_of(
    id: ShardId,
    log: &ShardLog,
    epochs: &EpochTable,
    (kept, committed): (ReplicaMark, Lsn),
    options: ReplicaOptions,
) -> Result<Replica, String> {
    let pieces = log.pieces(options.limits.chunk_bytes);
    let pieces = pieces.map_err(|e| e.to_string())?;
    let spans: Vec<Span> = pieces
        .into_iter()
        .map(|p| Span {
            epoch: p.epoch,
            first: p.first,
            last: p.last,
            bytes: p.bytes,
        })
        .collect();
    let base = Lsn(log.first_lsn().0 - 1);
    // A state store of an earlier version does not say; then the log has one history only.
    let first_epoch = spans.first().map(|s| s.epoch);
    let known = epochs.epoch_at(base).filter(|e| e.0 > 0 || base.0 == 0);
    let epoch = known.or(first_epoch).unwrap_or_default();
    let (leader, leaders_life) = kept.leader;
    let promise = (kept.promised > Epoch(0)).then_some(Promise {
        epoch: kept.promised,
        leader: Member {
            node: leader,
            incarnation: leaders_life,
        },
    });
    let start = ReplicaStart {
        me: Member {
            node: options.node,
            incarnation: kept.life,
        },
        promise,
        base: LogId { epoch, lsn: base },
        spans,
        committed,
    };
    Replica::new(id, options.limits, start).map_err(|fault| fault.to_string())
}

/// The last entry that a state store has taken in: what a snapshot of it reaches.
///
/// # Errors
/// [`Error::State`].
pub fn snapshot_id(picture: &StatePicture) -> Result<LogId, Error> {
    let (lsn, _) = picture.reach()?;
    let row = picture.value(EPOCHS_KEY)?.unwrap_or_default();
    let epochs: EpochTable = postcard::from_bytes(&row).unwrap_or_default();
    let epoch = epochs.epoch_at(lsn).unwrap_or_default();
    Ok(LogId { epoch, lsn })
}
