//! Valid inputs of every decoder, built by the code that writes them, and the golden files.

use flowstone_processor::{Input, PipelineSpec, StepLimits, Task};
use flowstone_storage::settled::{SegmentId, SettledWriter};
use flowstone_storage::{LogConfig, ShardLog, SimDisk, layout};
use flowstone_wire::{
    BatchBuilder, Codec, Header, Lsn, Offset, PartitionId, ProducerId, batch, compress, limits,
};
use std::path::Path;
use std::sync::Arc;

mod native;
mod peer;
pub(crate) mod tier;

const CODECS: [Codec; 5] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::Lz4,
    Codec::Zstd,
];

/// The valid inputs of the decoder of this name.
pub(crate) fn of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "batch" => batches(),
        "body" => bodies(),
        "frame" => vec![golden("frame-produce.bin")],
        "native" => native::headers(),
        "name" => strings(&[
            "orders.dlq",
            "A-1_b",
            "__offsets",
            "..",
            "a/b",
            "\u{fc}\u{1b}[31m",
        ]),
        "settled" => settled(),
        "mark" => vec![golden("mark.bin"), vec![0; 8192]],
        "index" => vec![index()],
        "log" => segments(),
        "rows" => rows(),
        "delta" => task_bytes().0,
        "entries" => task_bytes().1,
        "spec" => specs(),
        "text" => texts(),
        "http" => requests(),
        "manifest" => tier::manifests(),
        "owner" => tier::owners(),
        "document" => tier::documents(),
        "stranger" => peer::strangers(),
        "peer" => peer::peers(),
        other => panic!("no seeds for {other}"),
    }
}

/// A golden file of the format.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/format/v1");
    std::fs::read(dir.join(name)).expect("the golden file is there")
}

fn strings(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|s| s.as_bytes().to_vec()).collect()
}

fn builder(codec: Codec, count: u32) -> BatchBuilder {
    let mut b = BatchBuilder::new(codec);
    b.set_producer(ProducerId(77), 2, 9);
    let header = Header {
        name: b"traceparent",
        value: Some(b"00-ab"),
    };
    for i in 0..count {
        let ts = 1_700_000_000_000 + i64::from(i);
        assert!(b.push(ts, Some(b"key"), Some(br#"{"n":1,"t":20.5}"#), &[header]));
    }
    b
}

fn batches() -> Vec<Vec<u8>> {
    let mut all = vec![golden("batch.bin"), golden("batch-sent.bin")];
    for codec in CODECS {
        all.push(builder(codec, 9).finish_for_sending().to_vec());
    }
    all.push(builder(Codec::None, 1).finish_for_sending().to_vec());
    all
}

/// Small batches whose bodies unfold beyond the limit.
pub(crate) fn bombs() -> Vec<Vec<u8>> {
    CODECS[1..].iter().map(|codec| bomb(*codec)).collect()
}

fn bomb(codec: Codec) -> Vec<u8> {
    let mut body = Vec::new();
    compress::compress(
        codec,
        &vec![0; limits::BATCH_UNPACKED_BYTES_MAX + 1],
        &mut body,
    );
    let header = flowstone_wire::BatchHeader {
        record_count: 1,
        flags: codec.bits(),
        ..flowstone_wire::BatchHeader::default()
    };
    [&header.encode()[..], &body].concat()
}

fn bodies() -> Vec<Vec<u8>> {
    let plain: Vec<u8> = (0..2000u32).flat_map(|i| (i / 40).to_le_bytes()).collect();
    let mut all = Vec::new();
    for (i, codec) in CODECS.into_iter().enumerate() {
        for plain in [&plain[..], b"a few bytes", &[0; (1 << 20) + 1]] {
            let mut packed = vec![i as u8];
            compress::compress(codec, plain, &mut packed);
            packed.truncate(16 << 10);
            all.push(packed);
        }
    }
    // Snappy without a frame, as old clients send it: a length, then one literal.
    all.push(b"\x02\x05\x10hello".to_vec());
    all
}

fn log_of(disk: &SimDisk, batches: u64) -> ShardLog {
    let config = LogConfig {
        segment_bytes: 1024,
        min_free_bytes: 0,
    };
    let shared = Arc::new(disk.clone());
    let opened = ShardLog::open(shared, Path::new("s"), config, Lsn(0), &mut |_, _| {});
    let (mut log, _, _) = opened.expect("an empty disk opens");
    for i in 0..batches {
        log.make_room(250).expect("there is room");
        let mut batch = builder(Codec::None, 2).finish();
        if i % 3 == 1 {
            batch.set_flags(batch::FLAG_GROUP_CONTINUES);
        }
        log.append(batch, PartitionId(1024 + i as u32 % 2), Offset(i / 2 * 2));
    }
    log.flush().expect("the disk works");
    log
}

/// Two segments; see `targets/log.rs` for the bytes before them.
fn segments() -> Vec<Vec<u8>> {
    let disk = SimDisk::default();
    log_of(&disk, 4);
    let path = layout::log_dir(Path::new("s")).join(layout::segment_name(Lsn(1)));
    let segment = disk.bytes_of(&path).expect("it is there");
    let mut all = Vec::new();
    for (durable, applied) in [(0, 0), (2, 0), (4, 4), (1, 3), (7, 0), (0, 5)] {
        all.push([&[durable, applied][..], &segment].concat());
        all.push([&[durable, applied][..], &golden("segment.bin")].concat());
        // A full segment and the start of the next one.
        let mut full = segment.clone();
        let end = full.iter().rposition(|b| *b != 0).unwrap() + 1;
        full.truncate(end);
        let mut next = golden("segment.bin");
        next.truncate(256);
        all.push([&[durable | 0x80, applied][..], &full, &next].concat());
    }
    all
}

fn index() -> Vec<u8> {
    let disk = SimDisk::default();
    log_of(&disk, 9);
    let path = layout::log_dir(Path::new("s")).join(layout::index_name(Lsn(1)));
    disk.bytes_of(&path).expect("a sealed segment has one")
}

fn settled() -> Vec<Vec<u8>> {
    let mut all = vec![golden("settled.bin")];
    for compress in [false, true] {
        let disk = SimDisk::default();
        let log = log_of(&disk, 3);
        drop(log);
        let (dir, partition) = (Path::new("s"), PartitionId(1024));
        let shared = Arc::new(disk.clone());
        let id = SegmentId {
            partition,
            first_offset: Offset(0),
            generation: 0,
        };
        let writer = SettledWriter::create(shared, dir, id, compress);
        let mut writer = writer.expect("the disk works");
        for i in 0..3u64 {
            let stamp = batch::Stamp {
                partition,
                base_offset: Offset(i * 9),
                lsn: Lsn(i + 1),
                epoch: flowstone_wire::Epoch(1),
            };
            let (header, bytes) = builder(Codec::None, 9).finish().stamp(stamp);
            writer.push(&header, &bytes).expect("the disk works");
        }
        writer.finish().expect("the disk works");
        let path = layout::settled_path(dir, id);
        all.push(disk.bytes_of(&path).expect("it is there"));
    }
    all
}

/// See `targets/state.rs`.
fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    let len = (value.len() as u16).to_le_bytes();
    [&[key.len() as u8, len[0], len[1]], key, value].concat()
}

fn rows() -> Vec<Vec<u8>> {
    let id = 1024u32.to_be_bytes();
    let partition = entry(&[b"p", &id[..]].concat(), &[5, 9]);
    let producer = entry(
        &[&b"i\0\0\0\0\0\0\0\x07"[..], &id].concat(),
        &[2, 11, 1, 9, 2, 5, 3],
    );
    let group = entry(&[&b"gorders\0"[..], &id].concat(), &[7, 1, b'n']);
    let control = entry(b"c", &[4]);
    let task = entry(b"t\0\0\0\x01w", &[0, 0]);
    let delta = entry(b"d\0\0\0\x01\0\0\0\0\0\0\0\x09", &[1, 0, 0, 0, 0, 0]);
    let lane = entry(&[&b"o\x80\0\x04\0"[..], &id].concat(), &[0, 0, 0, 9]);
    let outbound = entry(
        &[&b"x\x80\0\x04\0"[..], &id, &[0, 0, 0, 0, 0, 0, 0, 9]].concat(),
        &golden("batch.bin"),
    );
    let records: [&[u8]; 3] = [
        &[0, 1, b'g', 1, 0x80, 8, 7, 1, b'n'],
        &[1, 1, 3, 1, 0, 0],
        &[2, 1, 0x80, 8, 9],
    ];
    let catalog = [
        entry(b"counters", &[1, 0x80, 8, 1, 1]),
        entry(b"topic/orders", &native::topic_row()),
        entry(b"home/g", &[1]),
        entry(b"pipeline/p", &[1]),
    ];
    let mut all: Vec<Vec<u8>> = records.iter().map(|r| entry(b"", r)).collect();
    all.extend(catalog);
    all.extend([
        partition, producer, group, control, task, delta, lane, outbound,
    ]);
    all.push(all.concat());
    all
}

/// Deltas of a task, and all its entries after each.
fn task_bytes() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let spec = r#"{"name":"p","source":"in","sink":"out","stages":[
        {"type":"window","name":"w","field":"n","size_ms":1000,"sink":"sums"},
        {"type":"zscore","name":"z","field":"count","samples":4,"min_samples":2,"threshold":1}]}"#;
    let spec: PipelineSpec = serde_json::from_str(spec).expect("it is JSON");
    let pipeline = spec.build().expect("it is a pipeline");
    let partition = PartitionId(1024);
    let mut task = Task::new(&pipeline, &[(partition, Offset(0))]);
    let (mut deltas, mut entries) = (Vec::new(), Vec::new());
    for i in 0..6u64 {
        let mut b = BatchBuilder::new(Codec::None);
        for j in 0..3 {
            let ts = 1_700_000_000_000 + (3 * i as i64 + j) * 700;
            assert!(b.push(ts, Some(b"k"), Some(br#"{"n":3.5}"#), &[]));
        }
        let bytes = b.finish_for_sending();
        let (mut header, body) = batch::records(&bytes).expect("it was just built");
        header.base_offset = Offset(3 * i);
        let input = Input {
            partition,
            header,
            body: &body,
        };
        let delta = task.step(1_700_000_100_000, &[input], StepLimits::default());
        let mut bytes = Vec::new();
        delta
            .expect("it is valid")
            .expect("it has changed")
            .state
            .encode(&mut bytes);
        deltas.push(bytes);
        let all = task.snapshot();
        entries.push(all.iter().flat_map(|(k, v)| entry(k, v)).collect());
    }
    (deltas, entries)
}

fn specs() -> Vec<Vec<u8>> {
    strings(&[
        include_str!("seeds/pipeline.toml"),
        include_str!("seeds/pipeline.json"),
        concat!(
            r#"{"name":"p","source":"in","timestamp_field":"time","sink":"out","stages":["#,
            r#"{"type":"window","field":"n","size_ms":1000,"lateness_ms":10}]}"#,
            "\0",
            r#"{"n":1e308,"time":"2015-12-10T06:55:46Z","s":"\ud83d\ude00"}"#
        ),
        "{\"name\":\"p\",\"source\":\"in\",\"sink\":\"out\",\"idle_ms\":5,\"max_attempts\":2}\0x",
        "name = \"p\"\nsource = [\"a\", \"b\"]\nsink = \"o\"\nout_of_order_ms = 9\n",
    ])
}

fn texts() -> Vec<Vec<u8>> {
    strings(&[
        include_str!("../../systemd/flowstone.toml.example"),
        "[log]\nflush_ms = 10\nsegment_bytes = 67108864\n[node]\nspin_us = \"always\"\nshards = 4\n",
        "[settle]\nrate_bytes_per_s = 1048576\ncompression = \"none\"\n[limits]\nconnections = 1\n",
        "[[pipeline]]\nname = \"p\"\nsource = \"a\"\nsink = \"b\"\n",
        "2015-12-10T06:55:46Z",
        "2015-12-10 07:55:46.1239+01:00",
        "1990-12-31t23:59:60z",
    ])
}

/// See `targets/http.rs` for the first byte.
fn requests() -> Vec<Vec<u8>> {
    strings(&[
        "\x00/api/v1/topics\n",
        "\x01/api/v1/topics\n{\"name\":\"u\",\"partitions\":3,\"retention_ms\":5,\"visibility\":\"written\"}",
        "\x00/api/v1/topics/t\n",
        "\x03/api/v1/topics/nobody\n",
        "\x00/api/v1/events/t?partition=0&offset=@2026-01-31T12:00:00Z&max=3\n",
        "\x00/api/v1/events/t?offset=@1767225600000\n",
        "\x00/api/v1/events/t?offset=end\n",
        "\x00/api/v1/events/t?offset=18446744073709551615\n",
        "\x01/api/v1/events/t?key=k&acks=written\nan event",
        "\x05/api/v1/events/t?partition=0\none\ntwo\r\n\nthree",
        "\x11/api/v1/events/t\nonce",
        "\x01/api/v1/events/%ff%fe\nx",
        "\x00/api/v1/groups\n",
        "\x00/api/v1/groups/g/offsets\n",
        "\x02/api/v1/groups/g/offsets\n[{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"note\":\"n\"}]",
        "\x00/api/v1/pipelines\n",
        "\x00/api/v1/shards\n",
        "\x00/api/v1/version\n",
        "\x00/healthz\n",
        "\x00/readyz\n",
        "\x00/metrics\n",
        "\x00/\n",
    ])
}
