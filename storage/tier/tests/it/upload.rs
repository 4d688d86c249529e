//! Nothing counts as uploaded that is not there byte for byte.

use crate::faults::{Chances, Faulty};
use crate::segments::{P, Segment, settings, tier, tier_with};
use flowstone_tier::{TierEpoch, TierError};
use std::time::Duration;

#[tokio::test]
async fn whatever_fails_an_uploaded_segment_is_whole() {
    let chances = Chances {
        fail: 60,
        lose_answer: 60,
        cut: 100,
        flip: 60,
        delay: 100,
        ..Chances::default()
    };
    let (small, large) = (Segment::make(0, 4, 0, 500), Segment::make(4, 60, 0, 500));
    assert!(small.meta.bytes < 4096 && large.meta.bytes > 6 * 4096);
    let (mut uploaded, mut refused, mut damaged) = (0, 0, 0);
    for seed in 0..400 {
        let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
        let tier = tier(&store, dir.path()).await;
        store.misbehave(seed, chances);
        for segment in [&small, &large] {
            for _ in 0..4 {
                match tier
                    .upload(P, &segment.meta, segment.file(), TierEpoch(3))
                    .await
                {
                    Ok(entry) => {
                        let there = store.bytes_of(&tier.names().segment(P, entry.id)).await;
                        assert_eq!(there.unwrap(), segment.bytes(), "seed {seed}");
                        assert_eq!(entry.crc32, crc32fast::hash(&segment.bytes()));
                        assert_eq!(entry.meta(P), segment.meta);
                        uploaded += 1;
                        break;
                    }
                    Err(TierError::Damaged { .. }) => damaged += 1,
                    Err(e) => {
                        assert!(e.is_passing(), "seed {seed}: {e}");
                        refused += 1;
                    }
                }
            }
        }
        let ended = store.requests("complete") + store.requests("abort");
        assert!(ended >= store.requests("begun"), "seed {seed}: parts stay");
    }
    assert!(
        uploaded > 300 && refused > 300 && damaged > 50,
        "{uploaded} {refused} {damaged}"
    );
}

#[tokio::test]
async fn a_file_that_is_not_the_segment_is_not_sent() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let tier = tier(&store, dir.path()).await;
    let segment = Segment::make(0, 4, 0, 50);
    let mut meta = segment.meta.clone();
    meta.bytes += 1;
    let puts = store.requests("put");
    let damaged = tier
        .upload(P, &meta, segment.file(), TierEpoch(1))
        .await
        .unwrap_err();
    assert!(matches!(damaged, TierError::Damaged { .. }), "{damaged}");
    assert_eq!(store.requests("put"), puts);
}

#[tokio::test(start_paused = true)]
async fn uploads_keep_to_their_rate() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let mut settings = settings();
    settings.upload_bytes_per_s = Some(10_000);
    let tier = tier_with(&store, dir.path(), settings).await;
    let segment = Segment::make(0, 100, 0, 500);
    let begun = tokio::time::Instant::now();
    let entry = tier
        .upload(P, &segment.meta, segment.file(), TierEpoch(1))
        .await
        .unwrap();
    let least = Duration::from_secs_f64(entry.bytes as f64 / 10_000.0 - 1.0);
    assert!(
        begun.elapsed() >= least && begun.elapsed() < least * 2,
        "{:?}",
        begun.elapsed()
    );
    let counts = tier.counters().snapshot();
    assert!(counts.up_bytes >= entry.bytes && counts.down_bytes >= entry.bytes);
}
