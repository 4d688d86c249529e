//! A node that dies between any two requests leaves nothing wrong and nothing behind.

use crate::faults::Faulty;
use crate::segments::{P, Segment, tier};
use flowstone_tier::{Entry, GcOptions, Manifest, PutManifest, Tier, TierEpoch, TierError};
use flowstone_wire::Offset;

struct Life {
    a: Segment,
    b: Segment,
    c: Segment,
    merged: Segment,
}

impl Life {
    fn new() -> Self {
        Self {
            a: Segment::make(0, 10, 0, 40),
            b: Segment::make(10, 20, 0, 40),
            // Goes in parts.
            c: Segment::make(20, 60, 0, 300),
            merged: Segment::make(0, 20, 1, 30),
        }
    }

    /// All that happens to a partition: it grows, is compacted and retained. May be begun again, by
    /// another owner, and comes to the same end.
    async fn live(&self, tier: &Tier, seen: &mut Manifest) -> Result<Manifest, TierError> {
        let epoch = tier.take_epoch("node").await?;
        *seen = tier.manifest(P).await?;
        for segments in [&[&self.a, &self.b][..], &[&self.c], &[&self.merged]] {
            let mut entries = Vec::new();
            for segment in segments {
                let first = segment.meta.first_offset;
                let holds = |e: &&Entry| e.id.first_offset <= first && first < e.next_offset;
                let known = seen.entries().iter().find(holds);
                let done = known.is_some_and(|e| e.id.generation >= segment.meta.generation);
                if !done && segment.meta.next_offset > seen.start() {
                    entries.push(tier.upload(P, &segment.meta, segment.file(), epoch).await?);
                }
            }
            self.change(tier, seen, epoch, |m| add(m, &entries)).await?;
        }
        self.clear(tier, seen, epoch).await?;
        self.change(tier, seen, epoch, |m| m.move_start(Offset(25)))
            .await?;
        self.clear(tier, seen, epoch).await?;
        Ok(seen.clone())
    }

    async fn change(
        &self,
        tier: &Tier,
        seen: &mut Manifest,
        epoch: TierEpoch,
        change: impl Fn(&mut Manifest),
    ) -> Result<(), TierError> {
        let mut next = seen.clone();
        change(&mut next);
        match tier.put_manifest(&next, epoch).await? {
            PutManifest::Stored(stored) => *seen = stored,
            PutManifest::Conflict(newer) => panic!("nobody else is there: {newer:?}"),
        }
        Ok(())
    }

    async fn clear(
        &self,
        tier: &Tier,
        seen: &mut Manifest,
        epoch: TierEpoch,
    ) -> Result<(), TierError> {
        match tier.clear_garbage(seen, epoch).await? {
            PutManifest::Stored(stored) => *seen = stored,
            PutManifest::Conflict(newer) => panic!("nobody else is there: {newer:?}"),
        }
        Ok(())
    }
}

fn add(manifest: &mut Manifest, entries: &[Entry]) {
    for entry in entries {
        manifest.add(entry.clone()).unwrap();
    }
}

/// What must hold after a crash, and that nothing is left after cleaning up.
async fn check_remains(tier: &Tier, store: &Faulty, seen: &Manifest, when: &str) {
    let found = tier.manifest(P).await.unwrap();
    assert!(
        found.version() >= seen.version(),
        "{when}: version {} was there",
        seen.version()
    );
    if found.version() == seen.version() {
        assert_eq!(&found, seen, "{when}");
    }
    let report = tier.verify(|_| {}).await.unwrap();
    assert!(report.problems.is_empty(), "{when}: {:?}", report.problems);
    assert_eq!(report.read.objects, found.entries().len() as u64);

    let epoch = tier.take_epoch("cleaner").await.unwrap();
    let PutManifest::Stored(clean) = tier.clear_garbage(&found, epoch).await.unwrap() else {
        panic!("{when}: nobody else is there");
    };
    let options = GcOptions {
        dry_run: true,
        now_ms: i64::MAX,
        min_age_ms: 0,
        epoch: Some(epoch),
    };
    let told = tier.gc(&options).await.unwrap();
    let removed = tier
        .gc(&GcOptions {
            dry_run: false,
            ..options
        })
        .await
        .unwrap();
    assert_eq!(told, removed, "{when}");
    let name = |e: &Entry| tier.names().segment(P, e.id).to_string();
    let named: Vec<_> = clean.entries().iter().map(name).collect();
    assert_eq!(store.names(".seg").await, named, "{when}");
    let versions = store.names("manifests").await.len();
    assert!(versions <= 3, "{when}: {versions} manifests");
}

#[tokio::test]
async fn death_between_any_two_requests_is_survived() {
    let life = Life::new();
    let dir = tempfile::tempdir().unwrap();
    let mut requests = 0;
    for happens in [false, true] {
        for n in 0.. {
            let store = Faulty::new();
            let dying = tier(&store, dir.path()).await;
            store.stop_after(n, happens);
            let mut seen = dying.manifest(P).await.unwrap_or(Manifest::empty(P));
            let lived = life.live(&dying, &mut seen).await;
            let stopped = store.has_stopped();
            assert!(lived.is_ok() || stopped, "request {n}: {lived:?}");
            let healed = store.healed();
            let next = tier(&healed, dir.path()).await;
            let when = format!(
                "request {n}, which {}",
                if happens { "happened" } else { "did not" }
            );
            check_remains(&next, &healed, &seen, &when).await;

            // The next owner comes to the same end as one that lived through.
            let mut seen = next.manifest(P).await.unwrap();
            let end = life.live(&next, &mut seen).await.unwrap();
            assert_eq!(end.start(), Offset(25), "{when}");
            let ids: Vec<_> = end.entries().iter().map(|e| e.id.first_offset).collect();
            assert_eq!((ids, end.garbage().len()), (vec![Offset(20)], 0), "{when}");
            assert_eq!(store.names(".seg").await.len(), 1, "{when}");
            requests = requests.max(n);
            if !stopped {
                break;
            }
        }
    }
    assert!(requests > 40, "{requests} requests are not that life");
}

#[tokio::test]
async fn the_young_and_the_named_stay() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let tier = tier(&store, dir.path()).await;
    let old = tier.take_epoch("old").await.unwrap();
    let life = Life::new();
    let orphan = tier
        .upload(P, &life.a.meta, life.a.file(), old)
        .await
        .unwrap();
    let new = tier.take_epoch("new").await.unwrap();
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    let options = GcOptions {
        dry_run: false,
        now_ms,
        min_age_ms: 3_600_000,
        epoch: Some(new),
    };
    assert_eq!(
        tier.gc(&options).await.unwrap(),
        [],
        "the old owner may still name it"
    );
    let mut manifest = tier.manifest(P).await.unwrap();
    let mine = tier
        .upload(P, &life.b.meta, life.b.file(), new)
        .await
        .unwrap();
    let young = tier
        .upload(P, &life.c.meta, life.c.file(), new)
        .await
        .unwrap();
    manifest.add(mine).unwrap();
    tier.put_manifest(&manifest, new).await.unwrap();
    let gone = tier.gc(&options).await.unwrap();
    assert_eq!(gone.iter().map(|o| o.id).collect::<Vec<_>>(), [orphan.id]);
    let later = GcOptions {
        now_ms: now_ms + 3_700_000,
        ..options
    };
    let gone = tier.gc(&later).await.unwrap();
    assert_eq!(gone.iter().map(|o| o.id).collect::<Vec<_>>(), [young.id]);
    assert_eq!(store.names(".seg").await.len(), 1);
    let fenced = tier
        .gc(&GcOptions {
            epoch: Some(old),
            ..options
        })
        .await;
    assert!(
        matches!(fenced, Err(TierError::Fenced { .. })),
        "{fenced:?}"
    );
}

#[tokio::test]
async fn verification_tells_what_is_wrong() {
    let (store, dir) = (Faulty::new(), tempfile::tempdir().unwrap());
    let tier = tier(&store, dir.path()).await;
    let epoch = tier.take_epoch("node").await.unwrap();
    let mut manifest = tier.manifest(P).await.unwrap();
    let mut entries = Vec::new();
    for (first, next) in [(0, 10), (10, 20), (20, 30), (35, 40)] {
        let segment = Segment::make(first, next, 0, 100);
        let mut entry = tier
            .upload(P, &segment.meta, segment.file(), epoch)
            .await
            .unwrap();
        if first == 20 {
            entry.records -= 1;
        }
        manifest.add(entry.clone()).unwrap();
        entries.push(entry);
    }
    tier.put_manifest(&manifest, epoch).await.unwrap();
    let name = |i: usize| tier.names().segment(P, entries[i].id);
    let mut bytes = store.bytes_of(&name(0)).await.unwrap().to_vec();
    bytes[100] ^= 1;
    store.overwrite(&name(0), bytes).await;
    store.remove(&name(1)).await;
    let mut calls = 0;
    let report = tier.verify(|_| calls += 1).await.unwrap();
    let found: Vec<_> = report
        .problems
        .iter()
        .map(|p| p.offset.unwrap().0)
        .collect();
    assert_eq!(found, [0, 10, 20, 30], "{:?}", report.problems);
    assert!(report.problems[0].what.contains("checksum"));
    assert!(report.problems[1].what.contains("not in the bucket"));
    assert!(report.problems[2].what.contains("footer"));
    assert!(
        report.problems[3]
            .what
            .contains("30 to 34 are in no object")
    );
    assert_eq!(
        (report.read.objects, report.read.problems, calls),
        (4, 4, 5)
    );
}
