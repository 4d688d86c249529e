//! Every bound on what passes between nodes, related to one another by const asserts.

use flowstone_wire::limits;
use std::time::Duration;

/// Nodes of a cluster.
pub const NODES_MAX: usize = 64;
/// Addresses of a node.
pub const ADDRESSES_MAX: usize = 8;
/// Authorities that are trusted at once: the present one, and the one before or after it.
pub const AUTHORITIES_MAX: usize = 2;
/// Certificates that a peer may show, its authority's included.
pub const CHAIN_MAX: usize = 4;

/// Clocks of two nodes may differ by this.
pub const CLOCK_SKEW_S: u64 = 300;
/// Certificates begin so long before they are made.
pub const BACKDATED_S: u64 = 3600;
/// Life of a node's certificate.
pub const NODE_LIFE_S: u64 = 365 * 24 * 3600;
/// Life of an authority.
pub const AUTHORITY_LIFE_S: u64 = 10 * NODE_LIFE_S;

/// Largest text that a joiner or a greeting may send, in bytes.
pub const JOIN_BYTES_MAX: usize = 16 << 10;
/// Largest answer to a joiner, in bytes.
pub const ADMITTED_BYTES_MAX: usize = 64 << 10;
/// Largest note of a joiner to the catalog, or back, in bytes.
pub const JOIN_NOTE_BYTES_MAX: usize = 4 << 10;
/// Largest greeting between nodes, in bytes.
pub const HELLO_BYTES_MAX: usize = 64;

/// Largest request or answer of a call, in bytes.
pub const CALL_BYTES_MAX: usize = 16 << 20;
/// Calls of one peer under way at once.
pub const CALLS_MAX: u32 = 256;
/// Bytes of one peer's requests that may wait for their handlers.
pub const CALLS_HELD_BYTES: usize = 64 << 20;
/// The same for those that must not wait behind others.
pub const URGENT_HELD_BYTES: usize = 32 << 20;
/// Numbers below this are of calls that go before others.
pub const URGENT_KINDS: u16 = 256;
/// Longest text of an error that a handler gives, in bytes.
pub const CALL_ERROR_BYTES_MAX: usize = 4 << 10;

/// Largest postcard envelope of a link, in bytes: a table of 40,000 epochs.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Largest body of a link's message, in bytes: a group that fits the smallest segment.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Slices that a body may be made of.
pub const SLICES_MAX: usize = 4096;
/// Bytes that wait for one peer's link; one message always may.
pub const QUEUE_BYTES: usize = 32 << 20;
/// Messages without a body that wait for one peer.
pub const QUEUE_WORDS: usize = 4096;
/// Messages with a body that wait for one peer.
pub const QUEUE_SPANS: usize = 4096;
/// Bytes of one peer's bodies that a shard may hold; one message always may.
pub const SHARD_HELD_BYTES: usize = 32 << 20;
/// Bytes of one peer's bodies that all shards may hold.
pub const LINK_HELD_BYTES: usize = 256 << 20;

/// Largest description of a snapshot, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// Snapshots of one peer under way at once.
pub const SNAPSHOTS_MAX: u32 = 4;
/// Bytes of a snapshot that are read and sent at once.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;

/// Handshakes under way at once that nobody has been authenticated in.
pub const HANDSHAKES_MAX: usize = 64;
/// From so many on, a peer must show that its address is its own.
pub const HANDSHAKES_FREE: usize = 16;
/// How long a handshake and a greeting, or a joiner, may take.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a joiner may take, the catalog's decision included.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

const _: () = {
    assert!(BODY_BYTES_MAX as u64 >= limits::SEGMENT_BYTES_MIN);
    assert!(CALL_BYTES_MAX >= limits::FRAME_BYTES_MAX);
    assert!(CALL_BYTES_MAX >= limits::HTTP_BODY_BYTES_MAX);
    assert!(CALLS_HELD_BYTES >= 2 * CALL_BYTES_MAX && URGENT_HELD_BYTES >= CALL_BYTES_MAX);
    assert!(SHARD_HELD_BYTES >= 2 * limits::BATCH_BYTES_MAX);
    assert!(LINK_HELD_BYTES >= 4 * SHARD_HELD_BYTES);
    assert!(BODY_BYTES_MAX < u32::MAX as usize);
    assert!(CALL_BYTES_MAX < u32::MAX as usize);
    assert!(HANDSHAKES_FREE < HANDSHAKES_MAX);
    assert!(CLOCK_SKEW_S <= BACKDATED_S);
    assert!(ADMITTED_BYTES_MAX > 2 * JOIN_BYTES_MAX);
};
