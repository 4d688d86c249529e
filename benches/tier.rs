//! The tier beside the object store below it: uploads, and cold sequential reads.
//!
//! Twice: a directory, and an S3 server in this process, on the same two cores. Raw is the same
//! objects by `object_store` alone, into memory and not proven: for uploads a put and then a get of each
//! object, as many side by side; for reads a get of one after the other.

#[path = "../storage/tier/tests/it/s3_server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "it is a test's"
)]
mod s3_server;

use bytes::Bytes;
use flowstone::bench::Figure;
use flowstone_storage::settled::{SegmentId, SettledMeta, SettledReader, SettledWriter};
use flowstone_storage::{Disk, RealDisk, layout};
use flowstone_tier::{Credentials, Entry, Keys, Secret, Settings, Tier, TierEpoch};
use flowstone_wire::batch::Stamp;
use flowstone_wire::{BatchBuilder, Codec, Epoch, Lsn, Offset, PartitionId};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn Error + Send + Sync>;
const MB: f64 = 1e6;
const P: PartitionId = PartitionId(PartitionId::FIRST_USER);
const SEGMENTS: u64 = 8;
const SEGMENT_BYTES: u64 = 32 << 20;
const AT_ONCE: usize = 4;
const RUNS: usize = 3;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path().join("node"))?);
    let segments = runtime.block_on(async { make_segments(&disk) })?;
    for name in ["directory", "S3"] {
        let mut runs = Vec::new();
        for run in 0..RUNS {
            let root = dir.path().join(format!("{name}-{run}"));
            std::fs::create_dir_all(&root)?;
            let one = runtime.block_on(measure(name, &root, &disk, &segments))?;
            std::fs::remove_dir_all(&root)?;
            runs.push(one);
        }
        for at in 0..runs[0].len() {
            let rank = |run: &[Figure]| run[at].ratio.unwrap_or(run[at].value);
            runs.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
            let f = &runs[RUNS / 2][at];
            let beside = match (f.raw, f.ratio) {
                (Some(raw), Some(ratio)) => format!(" (raw {raw:.0}, {ratio:.2})"),
                _ => String::new(),
            };
            println!("{}: {:.0} {}{beside}", f.name, f.value, f.unit);
        }
    }
    Ok(())
}

/// Settled segments of records that do not compress.
fn make_segments(disk: &Arc<dyn Disk>) -> Result<Vec<SettledMeta>, Failure> {
    let mut segments = Vec::new();
    let (mut offset, mut random) = (0, 88_172_645_463_325_252u64);
    for _ in 0..SEGMENTS {
        let id = SegmentId {
            partition: P,
            first_offset: Offset(offset),
            generation: 0,
        };
        let mut writer = SettledWriter::create(disk.clone(), Path::new("s"), id, false)?;
        while writer.file_bytes() < SEGMENT_BYTES {
            let mut batch = BatchBuilder::new(Codec::None);
            for _ in 0..64 {
                let value: Vec<u8> = (0..128)
                    .flat_map(|_| {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random.to_le_bytes()
                    })
                    .collect();
                if !batch.push(1, None, Some(&value), &[]) {
                    return Err("a batch takes 64 KiB".into());
                }
            }
            let (header, bytes) = batch.finish().stamp(Stamp {
                partition: P,
                base_offset: Offset(offset),
                lsn: Lsn(offset + 1),
                epoch: Epoch(1),
            });
            writer.push(&header, &bytes)?;
            offset += 64;
        }
        segments.push(writer.finish()?);
    }
    Ok(segments)
}

async fn measure(
    name: &str,
    root: &Path,
    disk: &Arc<dyn Disk>,
    segments: &[SettledMeta],
) -> Result<Vec<Figure>, Failure> {
    let (settings, store) = place(name, root).await?;
    let bytes: u64 = segments.iter().map(|m| m.bytes).sum();
    let rate = |start: Instant| bytes as f64 / start.elapsed().as_secs_f64() / MB;
    let plain: Vec<Bytes> = segments
        .iter()
        .map(|m| {
            let file = disk.open(&layout::settled_path(Path::new("s"), m.id()))?;
            let mut all = vec![0; m.bytes as usize];
            file.read_at(0, &mut all)?;
            Ok::<_, Failure>(all.into())
        })
        .collect::<Result<_, _>>()?;

    let start = Instant::now();
    let named = |n: usize| ObjectPath::from(format!("raw/{n}"));
    let puts = plain.iter().enumerate().map(|(n, b)| {
        let (store, name, bytes) = (store.clone(), named(n), b.clone());
        Ok(async move { store.put(&name, bytes.into()).await })
    });
    stream::iter(puts)
        .try_buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let raw_put = rate(start);
    let start = Instant::now();
    for n in 0..plain.len() {
        store.get(&named(n)).await?.bytes().await?;
    }
    let raw_get = rate(start);
    let start = Instant::now();
    let both = plain.iter().enumerate().map(|(n, b)| {
        let (store, name, bytes) = (
            store.clone(),
            ObjectPath::from(format!("both/{n}")),
            b.clone(),
        );
        Ok(async move {
            store.put(&name, bytes.into()).await?;
            store.get(&name).await?.bytes().await
        })
    });
    stream::iter(both)
        .try_buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let raw_both = rate(start);

    let cache = root.join("cache");
    let handle = tokio::runtime::Handle::current();
    let tier = Tier::open(settings, &cache, handle).await?;
    let epoch = tier.take_epoch("bench").await?;
    let start = Instant::now();
    let entries = upload(&tier, disk, segments, epoch).await?;
    let put = rate(start);
    let start = Instant::now();
    tokio::task::spawn_blocking(move || read_all(&tier, &entries)).await??;
    let get = rate(start);
    Ok(vec![
        Figure::new(format!("{name}, raw put"), raw_put, "MB/s"),
        Figure::new(format!("{name}, upload and read back"), put, "MB/s").beside(raw_both),
        Figure::new(format!("{name}, cold sequential read"), get, "MB/s").beside(raw_get),
    ])
}

async fn upload(
    tier: &Tier,
    disk: &Arc<dyn Disk>,
    segments: &[SettledMeta],
    epoch: TierEpoch,
) -> Result<Vec<Entry>, Failure> {
    let mut uploads = Vec::new();
    for meta in segments {
        let file = disk.open(&layout::settled_path(Path::new("s"), meta.id()))?;
        uploads.push(tier.upload(P, meta, file, epoch));
    }
    let mut entries: Vec<Entry> = stream::iter(uploads)
        .map(Ok::<_, flowstone_tier::TierError>)
        .try_buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    entries.sort_by_key(|e| e.id.first_offset);
    Ok(entries)
}

fn read_all(tier: &Tier, entries: &[Entry]) -> Result<(), Failure> {
    for entry in entries {
        let file = Arc::new(tier.file(P, entry.id, entry.bytes));
        let reader = SettledReader::over(file, Path::new("bench"), entry.segment(P))?;
        let mut at = entry.id.first_offset;
        while at < entry.next_offset {
            at = reader.read(at, 1 << 20)?.1;
        }
    }
    Ok(())
}

async fn place(name: &str, root: &Path) -> Result<(Settings, Arc<dyn ObjectStore>), Failure> {
    if name == "directory" {
        let bucket = root.join("bucket");
        std::fs::create_dir_all(&bucket)?;
        let store = LocalFileSystem::new_with_prefix(&bucket)?;
        let settings = Settings::at(format!("file://{}", bucket.display()));
        return Ok((settings, Arc::new(store)));
    }
    let server = s3_server::start(root, s3_server::Manners::Honest).await;
    let endpoint = format!("http://{server}");
    let store = AmazonS3Builder::new()
        .with_bucket_name(s3_server::BUCKET)
        .with_endpoint(&endpoint)
        .with_region("us-east-1")
        .with_access_key_id(s3_server::KEY)
        .with_secret_access_key(s3_server::SECRET)
        .with_allow_http(true)
        .build()?;
    let keys = Keys {
        access_key_id: s3_server::KEY.into(),
        secret_access_key: Secret::new(s3_server::SECRET),
        session_token: None,
    };
    let settings = Settings {
        endpoint: Some(endpoint),
        credentials: Credentials::Given(keys),
        ..Settings::at(format!("s3://{}/tier", s3_server::BUCKET))
    };
    Ok((settings, Arc::new(store)))
}
