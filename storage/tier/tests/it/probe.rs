//! A store that ignores conditions is found out.

use crate::faults::{Chances, Faulty};
use crate::segments::{P, Segment, settings};
use flowstone_tier::{PutManifest, Tier, TierError};
use std::sync::Arc;
use tokio::runtime::Handle;

async fn open(store: &Faulty, single: bool) -> Result<Arc<Tier>, TierError> {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.accept_single_writer = single;
    let store = Arc::new(store.clone());
    Tier::over(store, "", settings, dir.path(), Handle::current()).await
}

#[tokio::test]
async fn an_honest_store_is_taken_and_left_clean() {
    let store = Faulty::new();
    let tier = open(&store, false).await.unwrap();
    assert!(tier.abilities().conditional_create);
    assert_eq!(store.names("").await, Vec::<String>::new());
    assert!(tier.counters().snapshot().put_requests >= 9);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused() {
    let store = Faulty::without_conditions();
    let refused = open(&store, false).await.unwrap_err();
    assert!(matches!(refused, TierError::Refused { .. }), "{refused}");
    assert!(
        refused.to_string().contains("accept_single_writer"),
        "{refused}"
    );
    assert_eq!(store.names("").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_single_writer_may_use_it_all_the_same() {
    let store = Faulty::without_conditions();
    let tier = open(&store, true).await.unwrap();
    assert!(!tier.abilities().conditional_create);
    let (a, b) = (
        tier.take_epoch("a").await.unwrap(),
        tier.take_epoch("b").await.unwrap(),
    );
    assert_eq!((a.0, b.0), (1, 2));
    let segment = Segment::make(0, 5, 0, 10);
    let entry = tier
        .upload(P, &segment.meta, segment.file(), b)
        .await
        .unwrap();
    let mut manifest = tier.manifest(P).await.unwrap();
    let old = manifest.clone();
    manifest.add(entry).unwrap();
    let PutManifest::Stored(stored) = tier.put_manifest(&manifest, b).await.unwrap() else {
        panic!("nobody else writes");
    };
    assert_eq!(tier.manifest(P).await.unwrap(), stored);
    // One that comes late is seen even here.
    assert_eq!(
        tier.put_manifest(&old, b).await.unwrap(),
        PutManifest::Conflict(stored)
    );
    assert!(matches!(
        tier.put_manifest(&old, a).await,
        Err(TierError::Fenced { .. })
    ));
}

#[tokio::test]
async fn a_failing_store_is_not_called_unfit() {
    for seed in 0..200 {
        let store = Faulty::new();
        let chances = Chances {
            fail: 100,
            lose_answer: 100,
            delay: 300,
            ..Chances::default()
        };
        store.misbehave(seed, chances);
        match open(&store, false).await {
            Ok(tier) => assert!(tier.abilities().conditional_create),
            Err(TierError::Unavailable { .. }) => {}
            Err(e) => panic!("seed {seed}: {e}"),
        }
    }
}
