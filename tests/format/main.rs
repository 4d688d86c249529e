//! The bytes of the format: golden files that must open for ever, and docs/FORMAT.md against the code.
//!
//! `UPDATE=1` rewrites the golden files. A change of one is a change of the format: it takes a new magic.

mod catalog;
mod data_dir;

use flowstone_storage::log::LogConfig;
use flowstone_storage::mark::{Mark, MarkState};
use flowstone_storage::settled::{SegmentId, SettledReader, SettledWriter};
use flowstone_storage::{ShardLog, SimDisk, layout};
use flowstone_wire::batch::{self, HEADER_BYTES};
use flowstone_wire::native::{self, Acks, Request};
use flowstone_wire::{
    BatchBuilder, Codec, Epoch, Header, Lsn, Offset, PartitionId, ProducerId, Stamp, frame, limits,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = root().join("tests/golden/format/v1").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, bytes).expect("the golden directory can be written");
    }
    let kept = std::fs::read(&path).expect("the golden file is there; UPDATE=1 makes it");
    assert!(
        kept == bytes,
        "{name} is not what this code writes; the format has changed"
    );
    kept
}

fn builder() -> BatchBuilder {
    let mut b = BatchBuilder::new(Codec::None);
    b.set_producer(ProducerId(77), 2, 9);
    assert!(b.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[]));
    let header = Header {
        name: b"traceparent",
        value: Some(b"00-ab"),
    };
    assert!(b.push(1_700_000_000_005, None, None, &[header]));
    b
}

#[test]
fn a_batch_is_what_it_always_was() {
    let stamp = Stamp {
        partition: PartitionId(1024),
        base_offset: Offset(5),
        lsn: Lsn(3),
        epoch: Epoch(1),
    };
    let (_, bytes) = builder().finish().stamp(stamp);
    let kept = golden("batch.bin", &bytes);
    let header = batch::verify(&kept).expect("it opens");
    assert_eq!((header.base_offset, header.record_count), (Offset(5), 2));
    golden("batch-sent.bin", &builder().finish_for_sending());
}

#[test]
fn a_frame_is_what_it_always_was() {
    let request = native::Produce {
        partition: PartitionId(1024),
        acks: Acks::Durable,
    };
    let header = native::encode(&request).expect("it encodes");
    let mut bytes = Vec::new();
    frame::put_front(&mut bytes, native::Produce::API, 42, &header, 5);
    bytes.extend_from_slice(b"batch");
    golden("frame-produce.bin", &bytes);
}

#[test]
fn a_mark_is_what_it_always_was() {
    let disk = SimDisk::default();
    let (mut mark, _) = Mark::open(&disk, Path::new("mark")).expect("it opens");
    let state = MarkState {
        durable: Lsn(9),
        epoch: Epoch(2),
        starts: 3,
        clean: true,
        ..MarkState::default()
    };
    mark.store(state).expect("it is stored");
    golden(
        "mark.bin",
        &disk.bytes_of(Path::new("mark")).expect("it is there"),
    );
}

#[test]
fn a_segment_and_a_settled_segment_are_what_they_always_were() {
    let disk = SimDisk::default();
    let config = LogConfig {
        segment_bytes: 1024,
        min_free_bytes: 0,
    };
    let dir = Path::new("s");
    let opened = ShardLog::open(Arc::new(disk.clone()), dir, config, Lsn(0), &mut |_, _| {});
    let (mut log, _, _) = opened.expect("it opens");
    let appended = log.append(builder().finish(), PartitionId(1024), Offset(0));
    log.flush().expect("it is written");
    let path = layout::log_dir(dir).join(layout::segment_name(Lsn(1)));
    golden("segment.bin", &disk.bytes_of(&path).expect("it is there"));

    let partition = PartitionId(1024);
    let id = SegmentId {
        partition,
        first_offset: Offset(0),
        generation: 0,
    };
    let writer = SettledWriter::create(Arc::new(disk.clone()), dir, id, false);
    let mut writer = writer.expect("it is made");
    writer
        .push(&appended.header, &appended.bytes)
        .expect("it is written");
    writer.finish().expect("it is finished");
    let path = layout::settled_path(dir, id);
    golden("settled.bin", &disk.bytes_of(&path).expect("it is there"));
    let reader = SettledReader::open(&disk, dir, id).expect("it opens");
    reader.verify().expect("it verifies");
}

#[test]
fn the_page_says_the_numbers_of_the_code() {
    let page = std::fs::read_to_string(root().join("docs/FORMAT.md")).expect("the page is there");
    for wanted in [
        format!("Header: {HEADER_BYTES} bytes."),
        format!("72 to {}", limits::BATCH_BYTES_MAX),
        format!("at most {}", limits::FRAME_BYTES_MAX),
        format!("the last {} batches", limits::PRODUCER_WINDOW),
        format!("The layout has version {}", layout::FORMAT_VERSION),
        format!("version (2, {})", frame::VERSION),
        format!("`{}`", String::from_utf8_lossy(&batch::MAGIC)),
        "3 group continues, 4 control, 5 log-append time".into(),
    ] {
        assert!(
            page.contains(&wanted),
            "docs/FORMAT.md does not say '{wanted}'"
        );
    }
    assert_eq!(batch::FLAG_GROUP_CONTINUES, 1 << 3);
    assert_eq!(batch::FLAG_CONTROL, 1 << 4);
    assert_eq!(batch::FLAG_LOG_APPEND_TIME, 1 << 5);
    for (api, name) in [
        (native::Hello::API, "Hello"),
        (native::Fetch::API, "Fetch"),
        (native::ListShards::API, "ListShards"),
        (native::GetTier::API, "GetTier"),
        (native::GetCluster::API, "GetCluster"),
        (native::ChangeCluster::API, "ChangeCluster"),
    ] {
        assert!(
            page.contains(&format!("| {api} | {name} |")),
            "{api} {name}"
        );
    }
}
