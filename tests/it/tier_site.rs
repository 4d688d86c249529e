//! A broker with a tier: its bucket, what it is filled with, and what must hold of both.

use crate::child::{self, Finished};
use crate::confined::pass;
use crate::reading::visit_all;
use crate::server::{Server, Site, within};
use crate::tier_faults::Faults;
use crate::tier_server::{self, BUCKET, KEY, Manners, Moto, SECRET};
use flowstone_client::{Client, Offset, Producer, Record};
use flowstone_storage::settled::{SettledMeta, Tiered};
use flowstone_storage::{RealDisk, StateStore, layout};
use flowstone_tier::{Manifest, Settings, Tier};
use flowstone_wire::{PartitionId, ShardId};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const VALUE_BYTES: usize = 64 << 10;
/// The time of the record with number 0; each has a millisecond more than the one before.
pub(crate) const FIRST_MS: i64 = 1_700_000_000_000;
/// Everything that is sealed is settled at once.
pub(crate) const LOG: &str = "hot_bytes = 0";
/// What is asked again and again is asked this often.
const LOOK: Duration = Duration::from_millis(50);
/// A test never waits for so long for what must come.
const DEADLINE: Duration = Duration::from_secs(60);

/// A value from its number. One in four compresses badly, and all are different.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut dice = crate::dice::Dice::new(number);
    let mut value = number.to_le_bytes().to_vec();
    let random = if number.is_multiple_of(4) {
        VALUE_BYTES
    } else {
        64
    };
    while value.len() < random {
        value.extend_from_slice(&dice.next().to_le_bytes());
    }
    value.resize(VALUE_BYTES, b'.');
    value
}

/// Sends the records of these numbers to a partition, and waits until all are acknowledged.
pub(crate) async fn produce(producer: &Producer, partition: u32, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let record = Record::new(value(number))
            .partition(partition)
            .timestamp(FIRST_MS + number as i64);
        let _ticket = within("room", producer.enqueue(record)).await.unwrap();
    }
    within("acknowledgements", producer.flush()).await.unwrap();
}

/// Asks again and again until the answer is yes.
#[track_caller]
pub(crate) fn until(what: &str, mut asked: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let asking = async {
            while !asked().await {
                pass(LOOK).await;
            }
        };
        let done = tokio::time::timeout(DEADLINE, asking).await;
        assert!(done.is_ok(), "{place}: {what}: not in time");
    }
}

/// A bucket behind a layer of faults, served from a runtime of its own: a test that blocks does not
/// hold it up.
pub(crate) struct Bucket {
    pub(crate) faults: Faults,
    server: SocketAddr,
    runtime: Option<Runtime>,
    /// Where the server of this process keeps objects.
    dir: TempDir,
    _moto: Option<Moto>,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn serving() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

impl Bucket {
    pub(crate) async fn start(manners: Manners) -> Self {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), serving());
        let root = dir.path().to_path_buf();
        let started = runtime.spawn(async move {
            let server = tier_server::start(&root, manners).await;
            (server, Faults::start(server).await)
        });
        let (server, faults) = started.await.unwrap();
        Self {
            faults,
            server,
            runtime: Some(runtime),
            dir,
            _moto: None,
        }
    }

    /// A bucket of moto; `None` where that is not installed.
    pub(crate) async fn of_moto() -> Option<Self> {
        let (moto, server) = within("moto", Moto::start()).await?;
        let runtime = serving();
        let started = runtime.spawn(Faults::start(server));
        let bucket = Self {
            faults: started.await.unwrap(),
            server,
            runtime: Some(runtime),
            dir: tempfile::tempdir().unwrap(),
            _moto: Some(moto),
        };
        let made = bucket
            .http()
            .send("PUT", &format!("/{BUCKET}"), &[], b"")
            .await;
        made.expect(200);
        Some(bucket)
    }

    /// The server itself.
    pub(crate) fn http(&self) -> crate::http::Http {
        crate::http::Http(self.server)
    }

    /// `[tier]` for a broker that reaches the bucket through the faults.
    pub(crate) fn settings(&self, more: &str) -> String {
        format!(
            "[settle]\nrate_bytes_per_s = 1073741824\n[tier]\nurl = 's3://{BUCKET}/of/tests'\n\
             endpoint = 'http://{}'\nupload_after_ms = 0\npart_bytes = 5242880\n\
             chunk_bytes = 262144\ncache_bytes = 4194304\nrequest_timeout_ms = 2000\n\
             retry_for_ms = 2000\n{more}\n[tier.credentials.given]\naccess_key_id = '{KEY}'\n\
             secret_access_key = '{SECRET}'\n",
            self.faults.address()
        )
    }

    /// A place for a broker with this tier.
    pub(crate) fn site(&self) -> Site {
        Site::new(LOG, &self.settings(""))
    }

    /// The bucket as it is, without faults.
    pub(crate) async fn tier(&self) -> Arc<Tier> {
        let settings = self.settings("");
        let table: toml::Table = toml::from_str(&settings).unwrap();
        let mut tier = table["tier"].as_table().unwrap().clone();
        tier.remove("upload_after_ms");
        let endpoint = format!("http://{}", self.server);
        tier.insert("endpoint".into(), endpoint.into());
        let settings: Settings = tier.try_into().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let handle = tokio::runtime::Handle::current();
        let opened = Tier::open(settings, scratch.path(), handle);
        within("the bucket", opened).await.unwrap()
    }

    /// The newest manifest of a partition.
    pub(crate) async fn manifest(&self, partition: PartitionId) -> Manifest {
        self.tier().await.manifest(partition).await.unwrap()
    }

    /// Names of all objects of segments, as the server of this process keeps them.
    pub(crate) fn segments(&self) -> Vec<String> {
        let mut names = files_below(&self.dir.path().join(BUCKET));
        names.retain(|n| n.ends_with(".seg"));
        names
    }
}

/// Paths of all files below a directory, which may be gone.
pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

/// Settled segments that have a local file.
pub(crate) fn local_segments(data: &Path) -> Vec<String> {
    let mut names = files_below(&data.join("shards"));
    names.retain(|n| n.ends_with(".seg"));
    names
}

/// Runs a command with the settings of a site, elsewhere than on the threads of the test.
pub(crate) async fn command(site: &Site, args: &[&str]) -> Finished {
    let config = site.file("flowstone.toml").display().to_string();
    let own = |text: &&str| text.replace("CONFIG", &config);
    let args: Vec<String> = args.iter().map(own).collect();
    let run = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        child::run(&args, b"")
    });
    run.await.unwrap()
}

/// As [`command`], for one that must succeed and print JSON.
pub(crate) async fn command_json(site: &Site, args: &[&str]) -> Value {
    let finished = command(site, args).await;
    assert_eq!(finished.code, Some(0), "{args:?}: {finished:?}");
    finished.json()
}

/// What `flowstone tier verify` and `gc` must say once nothing runs: every entry can be read, and what
/// no manifest names is removed and nothing else. Returns how many objects that were.
pub(crate) async fn bucket_is_whole(site: &Site, bucket: &Bucket) -> usize {
    let verified = ["tier", "verify", "--config", "CONFIG", "--json"];
    command_json(site, &verified).await;
    let tier = bucket.tier().await;
    let mut named = 0;
    for partition in tier.partitions().await.unwrap() {
        let manifest = tier.manifest(partition).await.unwrap();
        named += manifest.entries().len() + manifest.garbage().len();
    }
    let gc = [
        "tier",
        "gc",
        "--config",
        "CONFIG",
        "--min-age-ms",
        "0",
        "--json",
    ];
    let removed = command_json(site, &gc).await;
    let again = command_json(site, &gc).await;
    assert_eq!(again["orphans"], serde_json::json!([]));
    if bucket._moto.is_none() {
        assert_eq!(
            bucket.segments().len(),
            named,
            "what is there is what is named"
        );
    }
    let after = command_json(site, &verified).await;
    assert_eq!(after["problems"], serde_json::json!([]));
    removed["orphans"].as_array().unwrap().len()
}

/// What the state store of a broker that is not running says of its settled segments and their copies.
fn noted(data: &Path, shard: ShardId) -> Vec<(SettledMeta, Option<Tiered>)> {
    let disk = RealDisk::new(data).unwrap();
    let dir = layout::shard_dir(shard);
    let state = StateStore::open(&disk, &layout::state(&dir)).unwrap();
    let copies = state.tiered().unwrap();
    let copy = |m: &SettledMeta| copies.iter().find(|(id, _)| *id == m.id()).map(|c| c.1);
    let metas = state.settled().unwrap();
    metas.into_iter().map(|m| (m.clone(), copy(&m))).collect()
}

/// Every settled segment of a broker that is not running has a whole local file, or a manifest names a
/// copy of it. Returns how many have no file.
pub(crate) async fn nothing_is_gone(data: &Path, bucket: &Bucket) -> usize {
    let tier = bucket.tier().await;
    let mut remote = 0;
    let shards = std::fs::read_dir(data.join("shards")).unwrap().count();
    let of = |shard| noted(data, shard).into_iter().map(move |n| (shard, n));
    for (shard, (meta, copy)) in (0..shards as u16).map(ShardId).flat_map(of) {
        let dir = layout::shard_dir(shard);
        let path = data.join(layout::settled_path(&dir, meta.id()));
        let local = std::fs::metadata(&path).is_ok_and(|file| file.len() == meta.bytes);
        let manifest = tier.manifest(meta.partition).await.unwrap();
        let is_named = copy.is_some_and(|copy| {
            let mut entries = manifest.entries().iter();
            entries.any(|e| e.segment(meta.partition) == meta.id() && e.id.epoch.0 == copy.epoch)
        });
        assert!(copy.is_none() || is_named, "{meta:?} {copy:?} {manifest:?}");
        assert!(
            local || is_named,
            "neither here nor there: {meta:?} {copy:?}"
        );
        remote += usize::from(!local);
    }
    remote
}

/// Deletes a topic as an operator does.
pub(crate) async fn delete(server: &Server, name: &str) {
    let (url, name) = (server.url(), name.to_string());
    let deleted = tokio::task::spawn_blocking(move || {
        child::run_ok(&["topic", "delete", &name, "--url", &url], b"");
    });
    deleted.await.unwrap();
}

/// Waits until partition 0 of a topic has so many settled segments, and nothing waits for the tier.
pub(crate) async fn until_copied(client: &Client, topic: &str, segments: u32) {
    until("everything settled is copied", async || {
        let status = client.describe(topic).await.unwrap();
        let tier = client.tier().await.unwrap().unwrap();
        let settled: u32 = status.partitions.iter().map(|p| p.settled_segments).sum();
        settled >= segments && tier.waiting_bytes == 0 && tier.copied_bytes > 0
    })
    .await;
}

/// Waits until all copied segments are in the tier only.
pub(crate) async fn until_remote(client: &Client) {
    until("local files go", async || {
        let tier = client.tier().await.unwrap().unwrap();
        tier.waiting_bytes == 0 && tier.copied_bytes > 0 && tier.remote_bytes == tier.copied_bytes
    })
    .await;
}

/// Reads a topic of which partition `p` holds the numbers `0..counts[p]`, byte for byte.
pub(crate) async fn reads_whole(client: &Client, topic: &str, counts: &[u64]) {
    let mut next = vec![0; counts.len()];
    visit_all(client, topic, |partition, record| {
        let at = &mut next[partition as usize];
        assert_eq!(record.offset, Offset(*at), "partition {partition}");
        assert_eq!(record.timestamp, FIRST_MS + *at as i64);
        assert!(record.value == Some(&value(*at)), "record {partition}/{at}");
        *at += 1;
    })
    .await;
    assert_eq!(next, counts);
}
