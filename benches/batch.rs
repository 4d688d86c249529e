//! The pure parts of the hot path: building, checking, stamping and walking batches.

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flowstone_wire::batch::{self, CheckedBatch};
use flowstone_wire::{BatchBuilder, Codec, Epoch, Lsn, Offset, PartitionId, Stamp, record};
use std::hint::black_box;

const STAMP: Stamp = Stamp {
    partition: PartitionId(2000),
    base_offset: Offset(9),
    lsn: Lsn(9),
    epoch: Epoch(1),
};

fn builder(records: u32, bytes: usize) -> BatchBuilder {
    let value = vec![7u8; bytes];
    let mut builder = BatchBuilder::with_capacity(Codec::None, records as usize * (bytes + 16));
    for n in 0..records {
        assert!(
            builder.push(i64::from(n), None, Some(&value), &[]),
            "it fits"
        );
    }
    builder
}

fn batches(c: &mut Criterion) {
    for (name, records, bytes) in [("1 x 128 B", 1, 128), ("256 x 1 KiB", 256, 1024)] {
        let sent = builder(records, bytes).finish_for_sending();
        let (header, stored) = builder(records, bytes).finish().stamp(STAMP);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(sent.len() as u64));
        group.bench_function("build", |b| {
            b.iter(|| black_box(builder(records, bytes).finish_for_sending()))
        });
        group.bench_function("check and stamp", |b| {
            b.iter_batched(
                || BytesMut::from(&sent[..]),
                |bytes| black_box(CheckedBatch::check(bytes).map(|checked| checked.stamp(STAMP))),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("verify", |b| b.iter(|| black_box(batch::verify(&stored))));
        group.bench_function("walk", |b| {
            b.iter(|| {
                let body = &stored[batch::HEADER_BYTES..];
                record::walk(&header, body)
                    .filter(|r| black_box(r).is_ok())
                    .count()
            });
        });
        group.bench_function("raw: crc32", |b| {
            b.iter(|| black_box(flowstone::bench::raw::crc32(&stored)))
        });
        group.finish();
    }
}

criterion_group! {
    name = all;
    config = Criterion::default().measurement_time(std::time::Duration::from_secs(2));
    targets = batches
}
criterion_main!(all);
