//! Inputs that once broke a decoder; each says what it broke.

use crate::seeds::{self, golden, tier};
use flowstone_tier::Entry;
use flowstone_wire::Lsn;

/// Those of one decoder.
pub(crate) fn of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "batch" => batches(),
        // The same in a block that is read.
        "settled" => seeds::of("settled")
            .into_iter()
            .map(|file| with(file, 16 + 16 + 16, &[0xff; 8]))
            .collect(),
        // A number at the end of its range has no next one.
        "mark" => [(8, 8), (16, 8), (24, 4), (28, 4)]
            .into_iter()
            .map(|(at, len)| with(golden("mark.bin"), 4096 + at, &[0xff; 8][..len]))
            .collect(),
        // Runs beyond the end of their segment were believed.
        "index" => vec![RUNS_BEYOND_THE_END.to_vec()],
        // Microseconds of it went beyond 64 bits.
        "text" => vec![b"[log]\nflush_ms = 9223372036854775807\n".to_vec()],
        // Its key became a producer that the shard keeps for tasks, and nothing was stored.
        "http" => vec![b"\x11/api/v1/events/t\nonce".to_vec()],
        // Recovery took another batch behind a hole when it was run again.
        "log" => vec![include_bytes!("inputs/log-batch-in-a-hole.bin").to_vec()],
        "manifest" => impossible_segments(),
        "document" => impossible_documents(),
        _ => Vec::new(),
    }
}

/// Sums of what they say were no numbers any more, and nothing could go on behind them.
fn impossible_segments() -> Vec<Vec<u8>> {
    let with = |change: fn(&mut Entry)| {
        let mut both = [tier::entry(0, 9), tier::entry(9, 200)];
        both.iter_mut().for_each(change);
        tier::manifest_of(&both)
    };
    vec![
        with(|e| e.bytes = u64::MAX),
        with(|e| e.records = u64::MAX),
        with(|e| e.last_lsn = Lsn(u64::MAX)),
        tier::manifest_of(&[tier::entry(9, u64::MAX)]),
    ]
}

/// No shards, or more than there can be; a partition that two topics have; a group that cuts its row.
fn impossible_documents() -> Vec<Vec<u8>> {
    vec![
        tier::catalog(0, &[]),
        tier::catalog(u16::MAX, &["orders"]),
        tier::catalog(1, &["orders"]),
        tier::catalog(4, &["orders", "others"]),
        tier::groups("a\0b"),
    ]
}

fn batches() -> Vec<Vec<u8>> {
    let mut all = seeds::bombs();
    // Offsets were added up beyond the last there is, from what a producer has no say in.
    all.push(with(golden("batch-sent.bin"), 16, &[0xff; 8]));
    // A header that said a later time than any record has hid what came behind it from readers that
    // look for a time: here the base timestamp is later than the only record.
    let mut early = golden("batch-sent.bin");
    early[40] = 1;
    early[36] = 0;
    early.truncate(72);
    early[60..64].fill(0);
    early.extend_from_slice(&[14, 0, 1, 0, 1, 2, b'v', 0]);
    all.push(early);
    all
}

fn with(mut bytes: Vec<u8>, at: usize, part: &[u8]) -> Vec<u8> {
    bytes[at..at + part.len()].copy_from_slice(part);
    bytes
}

const RUNS_BEYOND_THE_END: &[u8] =
    b"FSX1By\xa0\x15\x01\x04\xa0\x06\x02\x80\x08\x03\x00\x02\x01\x02\
    \x01\x00\xa8\x01\x82\xa0\xab\xfe\xf9b\x02\x04\x03\x04\x01\xc0\x02\xa0\x01\x82\xa0\xab\xfe\xf9b\
    \x04\x06\x05\x06\x01\x80\x05\xa0\x01\x82\xa0\xab\xfe\xf9b\x81\x08\x02\x00\x02\x02\x03\x01\xa0\
    \x01\xa0\x01\x82\xa0\xab\xfep\xedq\xf4\xa0\xf8x\xb9\xf9b\x02\x04\x04\x05\x01\xe0\x03\xa0\x01\
    \x82\xa0\xab\xfe\xf9b";
