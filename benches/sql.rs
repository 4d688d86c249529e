//! Records a second and core of pipelines of SQL, beside reading the same records and doing nothing.
//!
//! A task takes batches that lie in memory; its deltas are dropped. So the figures are those of
//! reading, computing and writing the results, without log and disk.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowstone_processor::{Input, Pipeline, StepLimits, Task};
use flowstone_sql::plan_file;
use flowstone_wire::batch::HEADER_BYTES;
use flowstone_wire::{
    BatchBuilder, BatchHeader, Codec, Epoch, Lsn, Offset, PartitionId, RecordView, Stamp, record,
};
use std::hint::black_box;

const RECORDS: u64 = 200_000;
const BATCH: u64 = 4_000;
const P: PartitionId = PartitionId(1024);

struct Batch {
    header: BatchHeader,
    body: Vec<u8>,
}

/// Records of `value(n)` under 100 keys, ten to the millisecond.
fn batches<V: AsRef<[u8]>>(value: impl Fn(u64) -> V) -> Vec<Batch> {
    let batch = |base: u64| {
        let mut builder = BatchBuilder::new(Codec::None);
        for n in base..base + BATCH {
            let (key, value) = (format!("key-{}", n * 7 % 100), value(n));
            let at_ms = 1_700_000_000_000 + (n / 10) as i64;
            assert!(builder.push(at_ms, Some(key.as_bytes()), Some(value.as_ref()), &[]));
        }
        let stamp = Stamp {
            partition: P,
            base_offset: Offset(base),
            lsn: Lsn(base / BATCH + 1),
            epoch: Epoch(1),
        };
        let (header, bytes) = builder.finish().stamp(stamp);
        let body = bytes[HEADER_BYTES..].to_vec();
        Batch { header, body }
    };
    (0..RECORDS / BATCH).map(|n| batch(n * BATCH)).collect()
}

fn run(pipeline: &Pipeline, batches: &[Batch]) -> u64 {
    let mut task = Task::new(pipeline, &[(P, Offset(0))]);
    for batch in batches {
        let input = Input {
            partition: P,
            header: batch.header,
            body: &batch.body,
        };
        let step = |task: &mut Task| task.step(4_000_000_000_000, &[input], StepLimits::default());
        while black_box(step(&mut task).expect("the batch is sound")).is_some() {}
    }
    task.stats().processed
}

fn read_only(batches: &[Batch]) -> usize {
    let size = |r: RecordView<'_>| r.value.map_or(0, <[u8]>::len);
    let of = |b: &Batch| {
        record::walk(&b.header, &b.body)
            .flatten()
            .map(size)
            .sum::<usize>()
    };
    batches.iter().map(of).sum()
}

const RAW: &str = "CREATE STREAM t (line VARCHAR, k VARCHAR FROM KEY, ts TIMESTAMP FROM TIMESTAMP, \
     WATERMARK FOR ts AS ts) WITH (format = 'raw');";
const JSON: &str = "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, x DOUBLE, line VARCHAR, \
     WATERMARK FOR ts AS ts);";
/// The same fields as [`JSON`] has.
const AVRO: &str = "CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, x DOUBLE, line VARCHAR, \
     WATERMARK FOR ts AS ts) WITH (format = 'avro', schema = '{\"type\": \"record\", \"name\": \"t\", \
     \"fields\": [{\"name\": \"ts\", \"type\": {\"type\": \"long\", \"logicalType\": \"timestamp-millis\"}}, \
     {\"name\": \"k\", \"type\": \"string\"}, {\"name\": \"n\", \"type\": \"long\"}, \
     {\"name\": \"x\", \"type\": \"double\"}, {\"name\": \"line\", \"type\": \"string\"}]}');";
const COUNT: &str = "SELECT k, window_end, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '1' SECOND) \
     GROUP BY k, window_start, window_end";

/// A number as Avro writes it.
fn long(value: u64, out: &mut Vec<u8>) {
    let mut zigzag = value << 1;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn text(value: &str, out: &mut Vec<u8>) {
    long(value.len() as u64, out);
    out.extend_from_slice(value.as_bytes());
}

fn avro(n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    long(1_700_000_000_000 + n / 10, &mut out);
    text(&format!("key-{}", n * 7 % 100), &mut out);
    long(n, &mut out);
    out.extend_from_slice(&((n % 977) as f64 + 0.5).to_le_bytes());
    text("a line of text", &mut out);
    out
}

fn pipelines(c: &mut Criterion) {
    let raw = batches(|n| format!("a line of text number {n}"));
    let json = batches(|n| {
        let ts = 1_700_000_000_000 + n / 10;
        format!(
            r#"{{"ts":{ts},"k":"key-{}","n":{n},"x":{}.5,"line":"a line of text"}}"#,
            n * 7 % 100,
            n % 977
        )
    });
    let avro = batches(avro);
    let cases = [
        (
            "project raw",
            RAW,
            "SELECT upper(line) AS line FROM t",
            "WITH (format = 'raw')",
            &raw,
        ),
        (
            "filter and project json",
            JSON,
            "SELECT k, n * 2 AS n FROM t WHERE x > 100.0",
            "",
            &json,
        ),
        ("project avro", AVRO, "SELECT k, n, x FROM t", "", &avro),
        (
            "filter and project avro",
            AVRO,
            "SELECT k, n * 2 AS n FROM t WHERE x > 100.0",
            "",
            &avro,
        ),
        (
            "project avro to raw",
            AVRO,
            "SELECT line FROM t",
            "WITH (format = 'raw')",
            &avro,
        ),
        ("tumbling count raw", RAW, COUNT, "", &raw),
        ("tumbling count avro", AVRO, COUNT, "", &avro),
        ("tumbling count json", JSON, COUNT, "", &json),
    ];
    let mut group = c.benchmark_group("sql");
    group
        .throughput(Throughput::Elements(RECORDS))
        .sample_size(10);
    for (name, stream, query, options, input) in cases {
        let text = format!("{stream} CREATE PIPELINE p {options} AS {query}");
        let planned = plan_file(&text)
            .expect("the statements are right")
            .1
            .remove(0);
        group.bench_function(BenchmarkId::new("read only", name), |b| {
            b.iter(|| read_only(input))
        });
        group.bench_function(BenchmarkId::new("pipeline", name), |b| {
            b.iter(|| assert_eq!(run(&planned.pipeline, input), RECORDS));
        });
    }
}

criterion_group!(benches, pipelines);
criterion_main!(benches);
