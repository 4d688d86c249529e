//! Chunks: fetched once, bounded, never wrong.

use crate::faults::{Chances, Faulty};
use crate::segments::{P, Segment, settings, tier_with};
use flowstone_storage::disk::DiskFile;
use flowstone_storage::settled::SettledReader;
use flowstone_tier::{Entry, Settings, Tier, TierEpoch, TierFile};
use flowstone_wire::Offset;
use std::io;
use std::path::Path;
use std::sync::Arc;

struct Setup {
    store: Faulty,
    dir: tempfile::TempDir,
    tier: Arc<Tier>,
    segment: Segment,
    entry: Entry,
}

impl Setup {
    async fn new(settings: Settings) -> Self {
        let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
        let tier = tier_with(&store, dir.path(), settings).await;
        let segment = Segment::make(0, 100, 0, 500);
        let entry = tier
            .upload(P, &segment.meta, segment.file(), TierEpoch(1))
            .await
            .unwrap();
        Self {
            store,
            dir,
            tier,
            segment,
            entry,
        }
    }

    /// Chunks that were asked for; proving the upload took one range.
    fn ranges(&self) -> u64 {
        self.store.requests("range") - 1
    }

    fn file(&self) -> Arc<TierFile> {
        Arc::new(self.tier.file(P, self.entry.id, self.entry.bytes))
    }

    fn chunk_files(&self) -> Vec<std::path::PathBuf> {
        let dir = std::fs::read_dir(self.dir.path().join("chunks")).unwrap();
        dir.map(|f| f.unwrap().path()).collect()
    }
}

async fn read(file: &Arc<TierFile>, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || {
        let mut out = vec![0; len];
        file.read_at(at, &mut out).map(|()| out)
    })
    .await
    .unwrap()
}

/// Waits for something that other threads are about to do.
async fn until(what: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !what() {
        assert!(std::time::Instant::now() < deadline, "it did not come");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_in_the_bucket_reads_as_the_file() {
    let setup = Setup::new(settings()).await;
    let all = setup.segment.bytes();
    assert_eq!(read(&setup.file(), 0, all.len()).await.unwrap(), all);
    for (at, len) in [
        (0, 1),
        (999, 2),
        (1000, 1000),
        (1500, 3000),
        (all.len() as u64 - 1, 1),
    ] {
        let got = read(&setup.file(), at, len).await.unwrap();
        assert_eq!(got, &all[at as usize..at as usize + len]);
    }
    let beyond = read(&setup.file(), all.len() as u64 - 1, 2)
        .await
        .unwrap_err();
    assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    let (file, id) = (setup.file(), setup.segment.meta.id());
    let local = setup.segment.reader();
    tokio::task::spawn_blocking(move || {
        let reader = SettledReader::over(file, Path::new("in the tier"), id).unwrap();
        assert_eq!(reader.meta(), local.meta());
        reader.verify().unwrap();
        let from = Offset(37);
        assert_eq!(
            reader.read(from, 1 << 20).unwrap(),
            local.read(from, 1 << 20).unwrap()
        );
        assert_eq!(reader.find_time(50).unwrap(), Some(Offset(50)));
    })
    .await
    .unwrap();
    assert_eq!(
        setup.file().sync().unwrap_err().kind(),
        io::ErrorKind::Unsupported
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_share_one_request() {
    let setup = Setup::new(settings()).await;
    let closed = setup.store.gate.forget_permits(usize::MAX);
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let file = setup.file();
            tokio::spawn(async move { read(&file, 5000, 900).await })
        })
        .collect();
    until(|| setup.tier.counters().snapshot().cache_joins == 15).await;
    setup.store.gate.add_permits(closed);
    for reader in readers {
        assert_eq!(
            reader.await.unwrap().unwrap(),
            &setup.segment.bytes()[5000..5900]
        );
    }
    assert_eq!(setup.ranges(), 1);
    assert_eq!(setup.tier.counters().snapshot().cache_misses, 1);
    until(|| setup.tier.counters().snapshot().cache_bytes == 1000).await;
    read(&setup.file(), 5000, 900).await.unwrap();
    assert_eq!(setup.ranges(), 1);
    assert_eq!(setup.tier.counters().snapshot().cache_hits, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_in_order_find_the_next_chunks_fetched() {
    let setup = Setup::new(settings()).await;
    let chunks = setup.entry.bytes.div_ceil(1000);
    let file = setup.file();
    for chunk in 0..chunks - 1 {
        read(&file, chunk * 1000, 1000).await.unwrap();
    }
    let counts = setup.tier.counters().snapshot();
    assert!(counts.cache_prefetches > chunks / 2, "{counts:?}");
    assert_eq!(
        counts.cache_prefetches + counts.cache_misses,
        chunks,
        "each once"
    );
    until(|| setup.ranges() == chunks).await;

    let jumping = Setup::new(settings()).await;
    let file = jumping.file();
    for at in [9000, 1000, 20_000, 5000] {
        read(&file, at, 10).await.unwrap();
    }
    assert_eq!(jumping.tier.counters().snapshot().cache_prefetches, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_keeps_to_its_bound() {
    let mut settings = settings();
    settings.cache_bytes = 10_000;
    let setup = Setup::new(settings).await;
    let file = setup.file();
    let all = setup.segment.bytes();
    for _ in 0..3 {
        assert_eq!(read(&file, 0, all.len()).await.unwrap(), all);
    }
    let counts = || setup.tier.counters().snapshot();
    let on_disk = || {
        let files = setup.chunk_files();
        let each = files.iter().filter_map(|f| f.metadata().ok());
        each.map(|m| m.len()).sum::<u64>()
    };
    until(|| on_disk() <= 10_000 && counts().cache_evictions > 100).await;
    assert!(counts().cache_bytes <= 10_000);
    setup.tier.delete(P, &[setup.entry.id]).await.unwrap();
    until(|| setup.chunk_files().is_empty()).await;
    let gone = read(&setup.file(), 0, 10).await.unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound, "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_chunk_is_fetched_again() {
    let setup = Setup::new(settings()).await;
    let all = setup.segment.bytes();
    type Harm = fn(&Path);
    let harms: [Harm; 3] = [
        |f| {
            let mut bytes = std::fs::read(f).unwrap();
            bytes[17] ^= 1;
            std::fs::write(f, bytes).unwrap();
        },
        |f| std::fs::write(f, b"short").unwrap(),
        |f| std::fs::remove_file(f).unwrap(),
    ];
    for (i, harm) in harms.into_iter().enumerate() {
        read(&setup.file(), 3000, 10).await.unwrap();
        until(|| setup.chunk_files().len() == 1).await;
        until(|| setup.tier.counters().snapshot().cache_bytes == 1000).await;
        // The chunk is kept before its flight is over.
        let requests = setup.ranges();
        until_hit(&setup).await;
        assert_eq!(setup.ranges(), requests);
        harm(&setup.chunk_files()[0]);
        assert_eq!(
            read(&setup.file(), 3000, 1000).await.unwrap(),
            &all[3000..4000]
        );
        assert_eq!(setup.tier.counters().snapshot().cache_damaged, i as u64 + 1);
        assert_eq!(setup.ranges(), requests + 1);
    }
}

async fn until_hit(setup: &Setup) {
    let hits = setup.tier.counters().snapshot().cache_hits;
    read(&setup.file(), 3000, 10).await.unwrap();
    assert_eq!(setup.tier.counters().snapshot().cache_hits, hits + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_bucket_gives_errors_and_never_wrong_bytes() {
    let setup = Setup::new(settings()).await;
    let all = setup.segment.bytes();
    let always = Chances {
        fail: 1000,
        ..Chances::default()
    };
    setup.store.misbehave(5, always);
    let e = read(&setup.file(), 0, 1200).await.unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::NetworkDown, "{e}");
    let at_times = Chances {
        fail: 200,
        cut: 300,
        ..Chances::default()
    };
    setup.store.misbehave(5, at_times);
    let mut good = 0;
    for round in 0..300u64 {
        let at = (round * 977) % (all.len() as u64 - 1200);
        match read(&setup.file(), at, 1200).await {
            Ok(got) => {
                assert_eq!(got, &all[at as usize..at as usize + 1200]);
                good += 1;
            }
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::NetworkDown, "{e}"),
        }
    }
    assert!(good > 50, "{good}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_another_length_and_a_missing_disk() {
    let setup = Setup::new(settings()).await;
    let all = setup.segment.bytes();
    let shorter = Entry {
        bytes: 10,
        ..setup.entry.clone()
    };
    let wrong = Arc::new(setup.tier.file(P, shorter.id, shorter.bytes));
    let wrong = read(&wrong, 0, 10).await.unwrap_err();
    assert_eq!(wrong.kind(), io::ErrorKind::InvalidData, "{wrong}");
    std::fs::remove_dir_all(setup.dir.path().join("chunks")).unwrap();
    let got = read(&setup.file(), 0, 5000).await.unwrap();
    assert_eq!(got, &all[..5000], "no disk, no cache");
    until(|| setup.tier.counters().snapshot().cache_write_errors > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_a_moment_is_tried_again() {
    let mut settings = settings();
    settings.retry_for_ms = 10_000;
    let setup = Setup::new(settings).await;
    setup.store.misbehave(
        3,
        Chances {
            cut: 500,
            ..Chances::default()
        },
    );
    let all = setup.segment.bytes();
    // Half of what is asked for is cut off: of so much some surely.
    for at in (0..20_000).step_by(1000) {
        read(&setup.file(), at, 500).await.ok();
    }
    setup.store.misbehave(3, Chances::default());
    assert_eq!(read(&setup.file(), 0, all.len()).await.unwrap(), all);
    assert!(setup.tier.counters().snapshot().retries > 0);
}

#[test]
fn readers_are_let_go_when_the_program_stops() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let setup = runtime.block_on(Setup::new(settings()));
    setup.store.gate.forget_permits(usize::MAX);
    let file = setup.file();
    let reader = std::thread::spawn(move || file.read_at(0, &mut [0; 10]));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while setup.ranges() == 0 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    runtime.shutdown_background();
    let error = reader.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error}");
    // Nor does one wait that comes later.
    let late = setup.file().read_at(5000, &mut [0; 10]).unwrap_err();
    assert!(late.to_string().contains("stopped"), "{late}");
}
