//! Compaction beside the tier: what has local files, and what is in the tier only.

use super::tier::{TIERED, local};
use super::*;

/// A compacted topic of which this node keeps as little as it may.
fn compacted() -> PartitionConfig {
    PartitionConfig {
        compact: true,
        tombstone_ms: 1,
        ..local(1)
    }
}

impl Rig {
    /// Writes a record, some virtual time after the one before.
    fn put(&mut self, key: &str, value: Option<&str>) {
        let mut b = BatchBuilder::new(Codec::None);
        let value = value.map(|v| format!("{v} {}", "x".repeat(60)));
        let value = value.as_deref().map(str::as_bytes);
        assert!(b.push(self.now.unix_ms, Some(key.as_bytes()), value, &[]));
        self.produce(b.finish(), Acks::Durable).unwrap();
        self.advance(2_000);
    }

    fn rest(&mut self) {
        (0..10).for_each(|_| self.advance(100_000));
    }

    /// The newest value of each key, without what it was filled up with.
    fn table(&mut self) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for (key, value) in self.records(A) {
            match value {
                Some(v) => drop(table.insert(key, v.split(' ').next().unwrap().into())),
                None => drop(table.remove(&key)),
            }
        }
        table
    }

    fn records(&mut self, partition: PartitionId) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (mut all, mut offset) = (Vec::new(), Offset(0));
        loop {
            let fetched = self.get(|ticket| fetch(ticket, partition, offset, 0));
            let Ok(Reply::Fetched(_, slices)) = fetched else {
                panic!("{fetched:?}")
            };
            if slices.is_empty() {
                return all;
            }
            for mut slice in slices {
                while !slice.is_empty() {
                    let (header, body) = batch::records(&slice).unwrap();
                    for r in record::walk(&header, &body).map(Result::unwrap) {
                        all.push((text(r.key.unwrap()), r.value.map(text)));
                    }
                    offset = header.next_offset();
                    slice = slice.slice(header.size as usize..);
                }
            }
        }
    }
}

#[test]
fn compacted_topics_keep_their_files_and_replace_their_copies() {
    let mut rig = Rig::new(TIERED);
    rig.configure(compacted());
    for n in 0..400 {
        rig.put(&format!("k{}", n % 7), Some("v"));
    }
    rig.rest();
    let files = rig.settled_files();
    assert_eq!(rig.bucket.disk.paths().len(), files, "each has one copy");
    assert!(files < 15, "it was compacted: {files}");
}

/// As after a restore: what comes later is compacted, and what it deletes stays deleted.
#[test]
fn behind_what_is_in_the_tier_only_it_is_compacted_and_tombstones_stay() {
    let mut rig = Rig::new(TIERED);
    rig.configure(local(1));
    for n in 0..200 {
        rig.put(&format!("k{}", n % 7), Some("old"));
    }
    rig.rest();
    assert_eq!(rig.settled_files(), 0, "all is in the tier only");
    rig.configure(compacted());
    rig.put("k6", None);
    for n in 0..400 {
        rig.put(&format!("k{}", n % 5), Some("new"));
    }
    rig.rest();
    assert_eq!(rig.reports, Vec::<String>::new());
    let left = rig.records(A).len();
    assert!(left > 200 && left < 400, "it was compacted: {left}");
    let of = |at: &str, value: &str| (at.to_string(), value.to_string());
    let news = ["k0", "k1", "k2", "k3", "k4"].map(|k| of(k, "new"));
    let all: BTreeMap<_, _> = news.into_iter().chain([of("k5", "old")]).collect();
    assert_eq!(rig.table(), all);
    rig = rig.reopen();
    rig.rest();
    assert_eq!(rig.table(), all);
}
