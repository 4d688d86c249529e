//! One plain function per decoder of untrusted bytes; it panics where a property does not hold.
//!
//! Two drivers call them: `tests/decoders` with seeds and mutations, `tests/fuzz` with libFuzzer.
//! Nothing in here may depend on chance or on what was decoded before.

mod batch;
mod disk;
mod http;
mod log;
mod peer;
mod settled;
mod state;
mod text;
mod tier;
mod wire;

pub(crate) use http::stop;

/// A decoder and what it may allocate.
pub(crate) struct Target {
    /// Its name; that of the fuzz target, too.
    pub(crate) name: &'static str,
    /// Decodes, and panics where a property does not hold.
    pub(crate) run: fn(&[u8]),
    /// Bytes that it may hold at once, whatever the input.
    pub(crate) base_bytes: u64,
    /// Bytes that it may hold at once for every byte of the input.
    pub(crate) per_byte: u64,
}

const MIB: u64 = 1 << 20;

/// Every decoder.
pub(crate) const ALL: &[Target] = &[
    // A body of 32 MiB: while a vector grows there are two, the larger one twice as long. Whoever
    // looks for a time unfolds one as well.
    target("batch", batch::batch, 200 * MIB, 64),
    target("body", batch::body, 16 * MIB, 16),
    target("frame", wire::frame, 4 * MIB, 8),
    target("native", wire::native, MIB, 512),
    target("name", wire::name, MIB, 16),
    target("settled", settled::settled, 200 * MIB, 64),
    target("mark", disk::mark, MIB, 64),
    target("index", disk::index, MIB, 128),
    target("log", log::log, 200 * MIB, 64),
    target("rows", state::rows, 64 * MIB, 256),
    target("delta", state::delta, MIB, 256),
    target("entries", state::entries, MIB, 256),
    target("spec", text::spec, 4 * MIB, 512),
    target("text", text::text, MIB, 512),
    target("http", http::http, 16 * MIB, 64),
    // What holds a list is set aside for up to a mebibyte of it before any of it was read.
    target("manifest", tier::manifest, 4 * MIB, 256),
    target("owner", tier::owner, MIB, 16),
    target("document", tier::document, 8 * MIB, 512),
    target("stranger", peer::stranger, MIB, 256),
    target("peer", peer::peer, 4 * MIB, 256),
];

const fn target(name: &'static str, run: fn(&[u8]), base_bytes: u64, per_byte: u64) -> Target {
    Target {
        name,
        run,
        base_bytes,
        per_byte,
    }
}

/// A number from the input, for choices that every byte of it should have a say in.
pub(crate) fn dice(data: &[u8]) -> usize {
    crc32fast::hash(data) as usize
}

/// A copy with one bit flipped.
pub(crate) fn flipped(data: &[u8], bit: usize) -> Vec<u8> {
    let mut copy = data.to_vec();
    copy[bit / 8] ^= 1 << (bit % 8);
    copy
}
