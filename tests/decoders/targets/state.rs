//! What a shard and its tasks keep: rows of the state store, internal records, deltas, entries.

use super::disk::{CONFIG, SHARD};
use bytes::BytesMut;
use flowstone_core::{Catalog, Shard, ShardConfig};
use flowstone_processor::{DeltaState, Input, Pipeline, PipelineSpec, StepLimits, Task};
use flowstone_storage::{Error, ShardLog, SimDisk, StateStore, layout};
use flowstone_wire::{
    BatchBuilder, Codec, ErrorCode, Lsn, Offset, PartitionId, ShardId, batch, batch::FLAG_CONTROL,
};
use std::path::Path;
use std::sync::{Arc, OnceLock};

const INPUT: PartitionId = PartitionId(1024);

/// Entries that stand back to back: lengths of key (1 byte) and value (2 bytes), key, value.
fn split(mut data: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut all = Vec::new();
    while let Some((&[key, low, high], rest)) = data.split_first_chunk() {
        let (key, rest) = rest.split_at(usize::from(key).min(rest.len()));
        let value = usize::from(u16::from_le_bytes([low, high]));
        let (value, rest) = rest.split_at(value.min(rest.len()));
        all.push((key, value));
        data = rest;
    }
    all
}

/// Rows of the state store, of the catalog, and, where a key is empty, the internal record of that
/// value: a shard opens with them or says which one it cannot read.
pub(super) fn rows(data: &[u8]) {
    let entries = split(data);
    let text = |(k, v)| Some((std::str::from_utf8(k).ok()?, v));
    let _ = Catalog::from_rows(4, entries.iter().copied().filter_map(text));
    let disk = SimDisk::default();
    let (dir, shared) = (Path::new(SHARD), Arc::new(disk.clone()));
    let opened = ShardLog::open(shared.clone(), dir, CONFIG, Lsn(0), &mut |_, _| {});
    let (mut log, ..) = opened.expect("an empty disk opens");
    for (_, value) in entries.iter().filter(|(key, _)| key.is_empty()) {
        let mut builder = BatchBuilder::new(Codec::None);
        if !builder.push(1, None, Some(value), &[])
            || log.make_room(72 + 32 + value.len() as u64).is_err()
        {
            continue;
        }
        let mut record = builder.finish();
        record.set_flags(FLAG_CONTROL);
        log.append(record, PartitionId::control(ShardId(0)), Offset(0));
    }
    log.flush().expect("the disk works");
    drop(log);
    let state = StateStore::open(&disk, &layout::state(dir)).expect("an empty disk opens");
    let row = |(k, v): &(&[u8], &[u8])| (!k.is_empty()).then(|| (k.to_vec(), Some(v.to_vec())));
    let changes: Vec<_> = entries.iter().filter_map(row).collect();
    state.apply(Lsn(0), &changes).expect("the disk works");
    let config = ShardConfig {
        log: CONFIG,
        hot_bytes: 0,
        flush_us: 1000,
        pending_bytes: 1 << 20,
        materialize_bytes: 1 << 20,
        retain_every_us: 1000,
        compress: false,
        tier_after_ms: None,
    };
    match Shard::open(shared, dir, ShardId(0), config, &state) {
        Ok((shard, _)) => assert!(shard.fenced().is_none()),
        Err(e) => assert!(matches!(e, Error::Format { .. }), "{e}"),
    }
}

fn pipeline() -> &'static Pipeline {
    static PIPELINE: OnceLock<Pipeline> = OnceLock::new();
    PIPELINE.get_or_init(|| {
        let spec = r#"{"name":"p","source":"in","sink":"out","stages":[
            {"type":"window","name":"w","field":"n","size_ms":1000,"sink":"sums"},
            {"type":"zscore","name":"z","field":"count","samples":4,"min_samples":2,"threshold":1}]}"#;
        let spec: PipelineSpec = serde_json::from_str(spec).expect("it is JSON");
        spec.build().expect("it is a pipeline")
    })
}

/// The batch that a task is given once it is in whatever state.
pub(super) fn step(task: &mut Task, value: &[u8]) {
    let mut builder = BatchBuilder::new(Codec::None);
    for ts in [0, 1_500, 90_000] {
        assert!(builder.push(ts, Some(b"k"), Some(value), &[]));
    }
    let bytes = BytesMut::from(&builder.finish_for_sending()[..]);
    let (header, body) = batch::records(&bytes.freeze()).expect("it was just built");
    for (now_ms, base) in [(100_000, 0), (i64::MAX, 3)] {
        let header = flowstone_wire::BatchHeader {
            base_offset: Offset(base),
            ..header
        };
        let input = Input {
            partition: INPUT,
            header,
            body: &body,
        };
        let _ = task.step(now_ms, &[input], StepLimits::default());
        let _ = (task.deadline(), task.state_bytes(), task.watermark());
    }
}

fn sorted(task: &Task) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = task.snapshot();
    all.sort();
    all
}

/// A delta: read, written, applied, and the task goes on from it.
pub(super) fn delta(data: &[u8]) {
    let delta = match DeltaState::decode(data) {
        Ok(delta) => delta,
        Err(failure) => {
            let known = [ErrorCode::Damaged, ErrorCode::UnsupportedVersion];
            return assert!(known.contains(&failure.code));
        }
    };
    let mut bytes = Vec::new();
    delta.encode(&mut bytes);
    assert!(bytes.len() <= data.len());
    assert_eq!(DeltaState::decode(&bytes).as_ref(), Ok(&delta));
    let mut task = Task::new(pipeline(), &[(INPUT, Offset(0))]);
    task.apply(&delta);
    let stored = sorted(&task);
    let mut loaded = Task::load(pipeline(), stored.clone()).expect("a snapshot can be loaded");
    assert!(sorted(&loaded) == stored, "a task is its snapshot");
    task.take_dirty();
    step(&mut task, br#"{"n":1}"#);
    step(&mut loaded, br#"{"n":1}"#);
}

/// Entries of a task.
pub(super) fn entries(data: &[u8]) {
    let mut task = match Task::load(pipeline(), split(data)) {
        Ok(task) => task,
        Err(failure) => return assert_eq!(failure.code, ErrorCode::Damaged),
    };
    let stored = sorted(&task);
    let again = Task::load(pipeline(), stored.clone()).expect("a snapshot can be loaded");
    assert!(sorted(&again) == stored, "a task is its snapshot");
    assert_eq!(again.state_bytes(), task.state_bytes());
    task.add_partition(INPUT, Offset(0));
    step(&mut task, br#"{"n":1}"#);
}
