//! What a bucket has beside segments: manifests, claims of epochs, and documents.

use super::{dice, flipped};
use bytes::Bytes;
use flowstone::restore;
use flowstone_tier::{Document, Manifest, Owner};
use flowstone_wire::limits::SHARDS_MAX;
use flowstone_wire::{Offset, PartitionId};
use std::collections::BTreeSet;

const HEADER_BYTES: usize = 12;

/// The bytes with the head of a frame that fits them.
fn framed(magic: &[u8; 4], data: &[u8]) -> Option<Vec<u8>> {
    let body = data.get(HEADER_BYTES..)?;
    let crc32 = crc32fast::hash(body).to_le_bytes();
    Some([&magic[..], &1u32.to_le_bytes(), &crc32, body].concat())
}

/// Every bit of a frame is covered.
fn is_covered(data: &[u8], is_taken: impl Fn(&[u8]) -> bool) {
    let bit = dice(data) % (8 * data.len());
    assert!(!is_taken(&flipped(data, bit)), "bit {bit} is not covered");
}

/// A manifest as it is, and with the checksum that it should have.
pub(super) fn manifest(data: &[u8]) {
    let framed = framed(b"FSTM", data);
    for data in [Some(data), framed.as_deref()].into_iter().flatten() {
        one_manifest(data);
    }
}

fn one_manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::decode(data) else {
        return;
    };
    is_covered(data, |other| Manifest::decode(other).is_ok());
    let written = manifest.encode().expect("it was not too large");
    assert!(written.len() <= data.len());
    assert_eq!(Manifest::decode(&written).as_ref(), Ok(&manifest));
    let (mut before, mut seen) = (None, BTreeSet::new());
    for entry in manifest.entries() {
        let (first, next) = (entry.id.first_offset, entry.next_offset);
        assert!(first < next && next > manifest.start());
        assert!(before.is_none_or(|(f, n)| f < first && n < next));
        before = Some((first, next));
        let _ = (entry.segment(PartitionId(1)), entry.tiered(false));
        assert!(seen.insert(entry.id));
    }
    // Beyond it a sum of segments and what goes on behind the last one would be no numbers.
    let bytes: u64 = manifest.entries().iter().map(|e| e.bytes).sum();
    let records: u64 = manifest.entries().iter().map(|e| e.records).sum();
    assert_eq!((manifest.bytes(), manifest.records()), (bytes, records));
    assert!(manifest.entries().iter().all(|e| e.last_lsn.0 < u64::MAX));
    let mut moved = manifest.clone();
    moved.move_start(Offset(u64::MAX));
    assert!(moved.entries().is_empty());
    assert!(manifest.garbage().iter().all(|id| seen.insert(*id)));
}

/// A claim of an epoch.
pub(super) fn owner(data: &[u8]) {
    let (alone, joint) = (framed(b"FSTO", data), framed(b"FSTC", data));
    let each = [Some(data), alone.as_deref(), joint.as_deref()];
    for data in each.into_iter().flatten() {
        let Ok(owner) = Owner::decode(data) else {
            continue;
        };
        is_covered(data, |other| Owner::decode(other).is_ok());
        let written = owner.encode();
        assert!(written.len() <= data.len());
        assert_eq!(Owner::decode(&written), Ok(owner));
    }
}

/// A document, and the catalog or the positions of groups in it.
pub(super) fn document(data: &[u8]) {
    let framed = framed(b"FSTD", data);
    for data in [Some(data), framed.as_deref()].into_iter().flatten() {
        let read = |data: &[u8]| Document::decode(7, &Bytes::copy_from_slice(data));
        let Ok(document) = read(data) else {
            continue;
        };
        is_covered(data, |other| read(other).is_ok());
        let written = Document::encode(document.epoch, &document.bytes);
        assert!(written == data, "it is written as the same again");
        if let Ok(catalog) = restore::read_catalog(&document.bytes) {
            assert!((1..=SHARDS_MAX).contains(&usize::from(catalog.shards())));
            let all: Vec<_> = catalog.topics().flat_map(|t| &t.partitions).collect();
            assert!(all.iter().all(|p| p.shard.0 < catalog.shards()));
            let ids: BTreeSet<_> = all.iter().map(|p| p.id).collect();
            assert_eq!(ids.len(), all.len(), "each has a number of its own");
        }
        if let Ok(groups) = restore::read_groups(&document.bytes) {
            // They become keys of the state store, which end with a zero.
            assert!(groups.iter().all(|(name, _)| !name.contains('\0')));
        }
    }
}
