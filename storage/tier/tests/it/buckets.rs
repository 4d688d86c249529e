//! The whole way, with an S3 server over loopback and with a directory.

use crate::s3_server::{self, BUCKET, KEY, Manners, SECRET};
use crate::segments::{P, Segment};
use flowstone_storage::settled::SettledReader;
use flowstone_tier::{
    Credentials, GcOptions, Keys, PutManifest, Secret, Settings, Tier, TierError,
};
use flowstone_wire::{Offset, PartitionId};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

pub(crate) fn s3_settings(server: SocketAddr) -> Settings {
    let mut settings = Settings::at(format!("s3://{BUCKET}/some/prefix"));
    settings.endpoint = Some(format!("http://{server}"));
    settings.region = Some("us-east-1".into());
    settings.credentials = Credentials::Given(Keys {
        access_key_id: KEY.into(),
        secret_access_key: Secret::new(SECRET),
        session_token: None,
    });
    settings.part_bytes = 5 << 20;
    settings.chunk_bytes = 64 << 10;
    settings.cache_bytes = 16 << 20;
    settings.retry_for_ms = 2_000;
    settings
}

async fn open(settings: &Settings, dir: &Path) -> Result<Arc<Tier>, TierError> {
    Tier::open(settings.clone(), dir, Handle::current()).await
}

/// A partition goes there, is read, replaced, retained and removed.
pub(crate) async fn there_and_back(settings: &Settings, dir: &Path) {
    let tier = open(settings, dir).await.unwrap();
    assert!(tier.abilities().conditional_create);
    let epoch = tier.take_epoch("node 1").await.unwrap();
    // The second one goes in two parts.
    let segments = [
        Segment::make(0, 200, 0, 1000),
        Segment::make(200, 260, 0, 100_000),
    ];
    assert!(segments[1].meta.bytes > 5 << 20);
    let mut manifest = tier.manifest(P).await.unwrap();
    for segment in &segments {
        let entry = tier
            .upload(P, &segment.meta, segment.file(), epoch)
            .await
            .unwrap();
        manifest.add(entry).unwrap();
    }
    let PutManifest::Stored(manifest) = tier.put_manifest(&manifest, epoch).await.unwrap() else {
        panic!("nobody else writes");
    };
    let other = Segment::of(PartitionId(2000), 5, 9, 0, 10);
    let entry = tier
        .upload(PartitionId(2000), &other.meta, other.file(), epoch)
        .await
        .unwrap();
    let mut theirs = tier.manifest(PartitionId(2000)).await.unwrap();
    theirs.add(entry).unwrap();
    tier.put_manifest(&theirs, epoch).await.unwrap();
    tier.put_document("catalog", epoch, b"all that is known")
        .await
        .unwrap();

    // Another node, with nothing but the bucket.
    let empty = open(settings, &dir.join("empty")).await.unwrap();
    assert_eq!(empty.partitions().await.unwrap(), [P, PartitionId(2000)]);
    assert_eq!(empty.manifest(P).await.unwrap(), manifest);
    let document = empty.latest_document("catalog").await.unwrap().unwrap();
    assert_eq!(&document.bytes[..], b"all that is known");
    for (segment, entry) in segments.iter().zip(manifest.entries()) {
        read_as_file(&empty, segment, entry).await;
    }
    let report = empty.verify(|_| {}).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.read.objects, 3);

    let orphan = Segment::make(260, 300, 0, 10);
    let orphan = tier
        .upload(P, &orphan.meta, orphan.file(), epoch)
        .await
        .unwrap();
    let mut next = manifest.clone();
    next.move_start(Offset(200));
    let PutManifest::Stored(next) = tier.put_manifest(&next, epoch).await.unwrap() else {
        panic!("nobody else writes");
    };
    let PutManifest::Stored(next) = tier.clear_garbage(&next, epoch).await.unwrap() else {
        panic!("nobody else writes");
    };
    assert_eq!((next.entries().len(), next.garbage().len()), (1, 0));
    let options = GcOptions {
        dry_run: false,
        now_ms: i64::MAX,
        min_age_ms: 0,
        epoch: Some(epoch),
    };
    let gone = tier.gc(&options).await.unwrap();
    assert_eq!(gone.iter().map(|o| o.id).collect::<Vec<_>>(), [orphan.id]);
    assert_eq!(tier.verify(|_| {}).await.unwrap().read.objects, 2);
    assert_eq!(tier.take_epoch("node 2").await.unwrap().0, epoch.0 + 1);
    let fenced = tier.put_manifest(&next, epoch).await;
    assert!(
        matches!(fenced, Err(TierError::Fenced { .. })),
        "{fenced:?}"
    );
    assert_eq!(tier.counters().snapshot().errors, 0);
}

async fn read_as_file(tier: &Arc<Tier>, segment: &Segment, entry: &flowstone_tier::Entry) {
    let file = Arc::new(tier.file(P, entry.id, entry.bytes));
    let segment = segment.clone();
    let read = tokio::task::spawn_blocking(move || {
        let id = segment.meta.id();
        let reader = SettledReader::over(file, Path::new("in the tier"), id).unwrap();
        reader.verify().unwrap();
        let (local, mut at) = (segment.reader(), segment.meta.first_offset);
        while at < segment.meta.next_offset {
            let there = reader.read(at, 300_000).unwrap();
            assert_eq!(there, local.read(at, 300_000).unwrap());
            at = there.1;
        }
    });
    read.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_s3() {
    let dir = tempfile::tempdir().unwrap();
    let server = s3_server::start(&dir.path().join("s3"), Manners::Honest).await;
    let settings = s3_settings(server);
    there_and_back(&settings, &dir.path().join("cache")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("bucket");
    let mut settings = Settings::at(format!("file://{}", root.display()));
    settings.part_bytes = 5 << 20;
    let missing = open(&settings, &dir.path().join("cache"))
        .await
        .unwrap_err();
    assert!(matches!(missing, TierError::Refused { .. }), "{missing}");
    std::fs::create_dir(&root).unwrap();
    there_and_back(&settings, &dir.path().join("cache")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ignores_conditions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = s3_server::start(&dir.path().join("s3"), Manners::Ignorant).await;
    let refused = open(&s3_settings(server), &dir.path().join("c"))
        .await
        .unwrap_err();
    assert!(matches!(refused, TierError::Refused { .. }), "{refused}");
    assert!(!refused.to_string().contains(SECRET));
    let mut settings = s3_settings(server);
    settings.accept_single_writer = true;
    let tier = open(&settings, &dir.path().join("c")).await.unwrap();
    assert_eq!(tier.take_epoch("me").await.unwrap().0, 1);
}

/// s3s-fs looks whether the object is there, and writes it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loses_races_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = s3_server::start(&dir.path().join("s3"), Manners::Racy).await;
    let mut refused = 0;
    for _ in 0..40 {
        match open(&s3_settings(server), &dir.path().join("c")).await {
            Err(TierError::Refused { .. }) => refused += 1,
            Ok(_) | Err(TierError::Unavailable { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 0, "40 times three races were all won by one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_refused_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let server = s3_server::start(&dir.path().join("s3"), Manners::Honest).await;
    let mut settings = s3_settings(server);
    settings.credentials = Credentials::Given(Keys {
        access_key_id: KEY.into(),
        secret_access_key: Secret::new("not that one"),
        session_token: None,
    });
    let refused = open(&settings, &dir.path().join("c")).await.unwrap_err();
    assert!(matches!(refused, TierError::Refused { .. }), "{refused}");
    assert!(!refused.to_string().contains("not that one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    drop(listener);
    let mut settings = s3_settings(server);
    settings.retry_for_ms = 300;
    let begun = std::time::Instant::now();
    let error = open(&settings, &dir.path().join("c")).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert!(begun.elapsed().as_secs() < 30);
}
