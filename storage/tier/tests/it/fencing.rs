//! Two owners, lost answers and lists that lag.

use crate::faults::{Chances, Faulty};
use crate::segments::{P, Segment, tier};
use flowstone_tier::{Entry, Manifest, PutManifest, Scope, Tier, TierEpoch, TierError};
use flowstone_wire::{Offset, ShardId};
use std::collections::BTreeSet;
use std::sync::Arc;

fn entry(first: u64, next: u64, epoch: TierEpoch) -> Entry {
    let segment = Segment::make(first, next, 0, 1);
    Entry::of(&segment.meta, epoch, 7)
}

async fn stored(tier: &Tier, manifest: &Manifest, epoch: TierEpoch) -> Manifest {
    match tier.put_manifest(manifest, epoch).await.unwrap() {
        PutManifest::Stored(manifest) => manifest,
        PutManifest::Conflict(newer) => panic!("conflict with {newer:?}"),
    }
}

fn is_fenced<T: std::fmt::Debug>(result: Result<T, TierError>) {
    assert!(
        matches!(result, Err(TierError::Fenced { .. })),
        "{result:?}"
    );
}

fn is_superseded<T: std::fmt::Debug>(result: Result<T, TierError>) {
    assert!(
        matches!(result, Err(TierError::Superseded { .. })),
        "{result:?}"
    );
}

/// Two nodes at one bucket.
async fn two(store: &Faulty, dir: &tempfile::TempDir) -> (Arc<Tier>, Arc<Tier>) {
    (
        tier(store, &dir.path().join("a")).await,
        tier(store, &dir.path().join("b")).await,
    )
}

#[tokio::test]
async fn an_owner_that_was_superseded_is_fenced() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (old, new) = two(&store, &dir).await;
    let first = old.take_epoch("old").await.unwrap();
    let mut manifest = old.manifest(P).await.unwrap();
    manifest.add(entry(0, 10, first)).unwrap();
    let manifest = stored(&old, &manifest, first).await;
    // The old owner is faster once more: the new one has to look again.
    let mut late = manifest.clone();
    late.add(entry(10, 20, first)).unwrap();
    let late = stored(&old, &late, first).await;
    let second = new.take_epoch("new").await.unwrap();
    let owner = new.owner().await.unwrap();
    let owner = owner.map(|(epoch, owner)| (epoch, owner.who, owner.joint));
    assert_eq!(owner, Some((second, "new".into(), None)));
    let mut later = late.clone();
    later.add(entry(20, 30, first)).unwrap();
    let fenced = old.put_manifest(&later, first).await;
    assert!(
        matches!(fenced, Err(TierError::Fenced { epoch }) if epoch == second),
        "{fenced:?}"
    );
    assert_eq!(new.manifest(P).await.unwrap(), late, "it was stored");
    let mut mine = manifest.clone();
    mine.add(entry(10, 30, second)).unwrap();
    let PutManifest::Conflict(mut newer) = new.put_manifest(&mine, second).await.unwrap() else {
        panic!("the old owner's manifest was overlooked");
    };
    assert_eq!((newer.entries().len(), newer.epoch()), (2, first));
    newer.add(entry(10, 30, second)).unwrap();
    let newest = stored(&new, &newer, second).await;
    assert_eq!(newest.garbage().len(), 1);

    // From here on nothing of the old owner has an effect.
    for base in [&manifest, &late, &newest] {
        is_fenced(old.put_manifest(base, first).await);
    }
    is_fenced(old.put_document("catalog", first, b"x").await);
    assert_eq!(new.manifest(P).await.unwrap(), newest);
}

/// An old name that was removed can be created again: that must not count.
#[tokio::test]
async fn an_owner_that_slept_for_long_creates_nothing_that_counts() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let tier = tier(&store, dir.path()).await;
    let old = tier.take_epoch("old").await.unwrap();
    let empty = tier.manifest(P).await.unwrap();
    let early = stored(&tier, &empty, old).await;
    let new = tier.take_epoch("new").await.unwrap();
    let mut manifest = early.clone();
    for _ in 0..6 {
        manifest = stored(&tier, &manifest, new).await;
    }
    assert_eq!(
        store.names("manifests").await.len(),
        3,
        "the last two and the mark"
    );
    for base in [&empty, &early] {
        is_fenced(tier.put_manifest(base, old).await);
        assert_eq!(tier.manifest(P).await.unwrap(), manifest);
    }
}

/// Two nodes of a cluster that both believe they lead a shard: the one of the earlier term is refused,
/// and what it leads beside that goes on.
#[tokio::test]
async fn the_leader_of_an_earlier_term_is_refused_and_other_shards_go_on() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (a, b) = two(&store, &dir).await;
    let since = a.join("cluster", "a").await.unwrap();
    assert_eq!(b.join("cluster", "b").await.unwrap(), since);
    let (shard, other) = (Scope::Shard(ShardId(0)), Scope::Shard(ShardId(1)));
    let old = a.claim(shard, 4, since, "a").await.unwrap();
    let beside = a.claim(other, 2, since, "a").await.unwrap();
    let mut manifest = a.manifest(P).await.unwrap();
    manifest.add(entry(0, 10, old.epoch)).unwrap();
    let PutManifest::Stored(manifest) = a.put_manifest(&manifest, old).await.unwrap() else {
        panic!("nobody else writes yet");
    };
    let new = b.claim(shard, 5, since, "b").await.unwrap();
    assert!(new.epoch > beside.epoch && beside.epoch > old.epoch);
    is_superseded(a.put_manifest(&manifest, old).await);
    is_superseded(
        a.clear_garbage(&manifest, old)
            .await
            .and(a.check_right(old).await),
    );
    is_superseded(a.claim(shard, 4, since, "a").await);
    a.check_right(beside).await.unwrap();
    let mut next = b.manifest(P).await.unwrap();
    assert_eq!(next, manifest, "nothing of the old leader came after");
    // Its segments end elsewhere; what is there of the leader before stays.
    next.add(entry(5, 20, new.epoch)).unwrap();
    let PutManifest::Stored(next) = b.put_manifest(&next, new).await.unwrap() else {
        panic!("nobody else writes any more");
    };
    assert_eq!(next.entries().len(), 2);

    // The same term again, as after a restart; then another owner takes all of it.
    let again = b.claim(shard, 5, since, "b").await.unwrap();
    is_superseded(b.put_manifest(&next, new).await);
    b.check_right(again).await.unwrap();
    let third = a.take_epoch("restore").await.unwrap();
    for right in [again, beside] {
        is_fenced(b.check_right(right).await);
        is_fenced(b.put_manifest(&next, right).await);
    }
    is_fenced(b.claim(shard, 6, since, "b").await);
    a.check_right(third).await.unwrap();
    let back = b.join("cluster", "b").await.unwrap();
    assert!(back > third, "it took the tier over again");
    is_fenced(a.check_right(third).await);
}

/// A leader that was replaced, and leads again in the same process, may hold an old manifest: the names of
/// versions behind it have been removed, and could be created again.
#[tokio::test]
async fn who_leads_again_goes_on_with_the_newest_manifest() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (a, b) = two(&store, &dir).await;
    let since = a.join("cluster", "a").await.unwrap();
    b.join("cluster", "b").await.unwrap();
    let shard = Scope::Shard(ShardId(0));
    let put = async |tier: &Tier, next: &Manifest, right| match tier.put_manifest(next, right).await
    {
        Ok(PutManifest::Stored(stored)) => stored,
        other => panic!("{other:?}"),
    };
    let first = a.claim(shard, 1, since, "a").await.unwrap();
    let mut old = a.manifest(P).await.unwrap();
    for n in 0..3 {
        old.add(entry(n * 10, n * 10 + 10, first.epoch)).unwrap();
        old = put(&a, &old, first).await;
    }
    let second = b.claim(shard, 2, since, "b").await.unwrap();
    let mut newest = b.manifest(P).await.unwrap();
    for n in 3..9 {
        newest
            .add(entry(n * 10, n * 10 + 10, second.epoch))
            .unwrap();
        newest = put(&b, &newest, second).await;
    }
    let third = a.claim(shard, 3, since, "a").await.unwrap();
    old.add(entry(30, 40, third.epoch)).unwrap();
    let conflict = a.put_manifest(&old, third).await.unwrap();
    assert_eq!(conflict, PutManifest::Conflict(newest.clone()));
    newest.add(entry(90, 100, third.epoch)).unwrap();
    let stored = put(&a, &newest, third).await;
    assert_eq!((stored.entries().len(), stored.version()), (10, 10));
    assert_eq!(b.manifest(P).await.unwrap(), stored);
}

#[tokio::test]
async fn an_answer_that_got_lost_is_found_again() {
    for happens in [false, true] {
        for n in 0..6 {
            let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
            let tier = tier(&store, dir.path()).await;
            let epoch = tier.take_epoch("me").await.unwrap();
            let mut manifest = tier.manifest(P).await.unwrap();
            manifest.add(entry(0, 10, epoch)).unwrap();
            store.stop_after(n, happens);
            let first = tier.put_manifest(&manifest, epoch).await;
            store.stop_after(u64::MAX / 2, false);
            let again = stored(&tier, &manifest, epoch).await;
            assert_eq!((again.version(), again.entries().len()), (1, 1));
            if let Ok(first) = first {
                assert_eq!(first, PutManifest::Stored(again.clone()));
            }
            assert_eq!(tier.manifest(P).await.unwrap(), again);
        }
    }
}

#[tokio::test]
async fn nobody_shares_an_epoch() {
    for seed in 0..100 {
        let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
        let tier = tier(&store, dir.path()).await;
        let chances = Chances {
            lose_answer: 50,
            fail: 50,
            stale: 300,
            delay: 500,
            ..Chances::default()
        };
        store.misbehave(seed, chances);
        let take = |i: usize| {
            let tier = Arc::clone(&tier);
            async move { tier.take_epoch(&format!("owner {i}")).await }
        };
        let taken = futures_util::future::join_all((0..8).map(take)).await;
        let good: Vec<_> = taken.into_iter().filter_map(Result::ok).collect();
        let different: BTreeSet<_> = good.iter().collect();
        assert_eq!(good.len(), different.len(), "seed {seed}: {good:?}");
    }
}

#[tokio::test]
async fn a_list_that_lags_hides_nothing() {
    for seed in 0..300 {
        let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
        let writer = tier(&store, &dir.path().join("w")).await;
        let epoch = writer.take_epoch("me").await.unwrap();
        let chances = Chances {
            stale: 700,
            ..Chances::default()
        };
        store.misbehave(seed, chances);
        let mut manifest = writer.manifest(P).await.unwrap();
        for i in 0..12 {
            manifest.move_start(Offset(i));
            manifest = stored(&writer, &manifest, epoch).await;
            match writer.manifest(P).await {
                Ok(found) => assert_eq!(found, manifest, "seed {seed}, step {i}"),
                Err(e) => assert!(e.is_passing(), "seed {seed}, step {i}: {e}"),
            }
            writer.put_document("catalog", epoch, &[i as u8]).await.ok();
        }
        store.misbehave(0, Chances::default());
        assert_eq!(writer.manifest(P).await.unwrap(), manifest);
    }
}

#[tokio::test]
async fn documents_come_back_and_old_ones_go() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let tier = tier(&store, dir.path()).await;
    let epoch = tier.take_epoch("me").await.unwrap();
    assert_eq!(tier.latest_document("catalog").await.unwrap(), None);
    for i in 1..=5u8 {
        assert_eq!(
            tier.put_document("catalog", epoch, &[i; 3])
                .await
                .unwrap()
                .version,
            u64::from(i)
        );
    }
    let newest = tier.latest_document("catalog").await.unwrap().unwrap();
    assert_eq!(
        (newest.version, newest.epoch, &newest.bytes[..]),
        (5, epoch, &[5; 3][..])
    );
    assert_eq!(
        store.names("documents").await.len(),
        3,
        "the last two and the mark"
    );
    let refused = tier.put_document("../owner", epoch, b"").await.unwrap_err();
    assert!(matches!(refused, TierError::Refused { .. }), "{refused}");
    let name = tier.names().document_row("catalog").unwrap().name(5);
    store.overwrite(&name, "nonsense".to_owned()).await;
    let damaged = tier.latest_document("catalog").await.unwrap_err();
    assert!(matches!(damaged, TierError::Damaged { .. }), "{damaged}");
}
