//! Manifests, claims, and documents as buckets have them.

use super::native;
use flowstone_storage::settled::SettledMeta;
use flowstone_tier::{Document, Entry, Held, Joint, Manifest, Owner, Scope, TierEpoch};
use flowstone_wire::native::GroupOffset;
use flowstone_wire::{Lsn, Offset, PartitionId, ShardId};

const PARTITION: PartitionId = PartitionId(1024);

/// An entry of a manifest.
pub(crate) fn entry(first: u64, next: u64) -> Entry {
    let meta = SettledMeta {
        partition: PARTITION,
        first_offset: Offset(first),
        next_offset: Offset(next),
        generation: 0,
        clean_at_ms: (first > 0).then_some(1_700_000_000_000),
        records: next - first,
        bytes: 1 << 20,
        max_timestamp: 1_700_000_000_000,
        last_lsn: Lsn(next),
    };
    Entry::of(&meta, TierEpoch(3), 0xdead_beef)
}

/// A manifest with these segments, whether they can be or not.
pub(crate) fn manifest_of(entries: &[Entry]) -> Vec<u8> {
    let mut manifest = Manifest::empty(PARTITION);
    for entry in entries {
        manifest.add(entry.clone()).expect("they do not overlap");
    }
    manifest.encode().expect("it is small")
}

pub(super) fn manifests() -> Vec<Vec<u8>> {
    let mut manifest = Manifest::empty(PARTITION);
    for (first, next) in [(0, 9), (9, 200), (400, 401)] {
        let added = manifest.add(entry(first, next));
        added.expect("they do not overlap");
    }
    let all = manifest.encode();
    manifest.move_start(Offset(50));
    let with_garbage = manifest.encode();
    manifest.move_start(Offset(u64::MAX));
    let of_deleted = manifest.encode();
    let each = [all, with_garbage, of_deleted].map(|m| m.expect("it is small"));
    [&each[..], &[manifest_of(&[])]].concat()
}

pub(super) fn owners() -> Vec<Vec<u8>> {
    let owner = |who: &str, joint| Owner {
        who: who.into(),
        nonce: 77,
        joint,
    };
    let held = |scope, epoch, term| Held {
        scope,
        epoch: TierEpoch(epoch),
        term,
    };
    let joint = Joint {
        cluster: "a-cluster".into(),
        since: TierEpoch(3),
        held: vec![
            held(Scope::Catalog, 5, 2),
            held(Scope::Shard(ShardId(0)), 4, 9),
            held(Scope::Shard(ShardId(300)), 7, 1),
        ],
    };
    let all = [("node-1", None), ("", None), ("node-2", Some(joint))];
    all.map(|(who, joint)| owner(who, joint).encode()).to_vec()
}

/// The catalog of a node with so many shards and these topics.
pub(crate) fn catalog(shards: u16, topics: &[&str]) -> Vec<u8> {
    let row = |name: &&str| (format!("topic.2/{name}"), native::topic_row());
    let counters = ("counters".to_string(), vec![1, 0x80, 8, 1, 1]);
    let left = ("in-tier/7".to_string(), vec![1, 0x80, 8]);
    let rows: Vec<(String, Vec<u8>)> = topics.iter().map(row).chain([counters, left]).collect();
    sealed(&("a-cluster", shards, rows))
}

/// The positions of a group.
pub(crate) fn groups(name: &str) -> Vec<u8> {
    let position = GroupOffset {
        partition: PARTITION,
        offset: Offset(9),
        note: "as far".into(),
    };
    sealed(&[(name, vec![position])].to_vec())
}

fn sealed(document: &impl serde::Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(document).expect("it is plain data");
    Document::encode(TierEpoch(3), &body)
}

pub(super) fn documents() -> Vec<Vec<u8>> {
    vec![
        catalog(4, &["orders"]),
        catalog(1, &[]),
        groups("readers"),
        Document::encode(TierEpoch(1), b""),
    ]
}
