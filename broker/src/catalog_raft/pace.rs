//! How fast voters look after each other, and how long a log is kept.

use super::forward::PROPOSAL_BYTES_MAX;
use super::log::READ_BYTES_MAX;
use super::peers::PEER_BYTES_MAX;
use openraft::{Config, SnapshotPolicy};
use std::sync::Arc;

/// A leader shows itself to the others this often, in milliseconds.
const HEARTBEAT_MS: u64 = 100;
/// Voters that have not heard a leader for between one and two of these look for another one.
const ELECTION_MS: u64 = 300;
/// Nobody waits for the heartbeat of an only voter: it only costs wake-ups.
const ALONE_MS: u64 = 10_000;
/// A snapshot is due after so many entries.
const SNAPSHOT_EVERY: u64 = 1_000;
/// So many entries below a snapshot are kept for nodes that are a little behind.
const KEPT: u64 = 500;
/// A node that is further behind gets a snapshot.
const BEHIND_MAX: u64 = 2_000;
/// Most entries of a message; their bytes are bounded by `log.rs`, too.
const ENTRIES_MAX: u64 = 64;
/// Bytes of a piece of a snapshot.
const PIECE_BYTES: u64 = 2 << 20;
/// What a message has beside entries or a piece of a snapshot, in bytes, at most.
const OVERHEAD_BYTES: usize = 64 << 10;
/// Within this a piece of a snapshot is answered, in milliseconds.
const PIECE_MS: u64 = 10_000;

const _: () = assert!(HEARTBEAT_MS * 3 <= ELECTION_MS);
const _: () = assert!(SNAPSHOT_EVERY + KEPT < BEHIND_MAX);
const _: () = assert!(PIECE_BYTES as usize + OVERHEAD_BYTES <= PEER_BYTES_MAX);
const _: () = assert!(READ_BYTES_MAX + PROPOSAL_BYTES_MAX + OVERHEAD_BYTES <= PEER_BYTES_MAX);

/// What openraft is told.
///
/// # Errors
/// What it says of these numbers.
pub(super) fn config(is_alone: bool) -> Result<Arc<Config>, String> {
    let (heartbeat_interval, election) = if is_alone {
        (ALONE_MS, 3 * ALONE_MS)
    } else {
        (HEARTBEAT_MS, ELECTION_MS)
    };
    let config = Config {
        cluster_name: "flowstone".into(),
        heartbeat_interval,
        election_timeout_min: election,
        election_timeout_max: 2 * election,
        install_snapshot_timeout: PIECE_MS,
        max_payload_entries: ENTRIES_MAX,
        replication_lag_threshold: BEHIND_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        snapshot_max_chunk_size: PIECE_BYTES,
        max_in_snapshot_log_to_keep: KEPT,
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| e.to_string())
}
