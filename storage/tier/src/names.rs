//! Names of objects: numbers of a fixed width, so that they sort as what they name.

use crate::manifest::{ObjectId, TierEpoch};
use flowstone_wire::{Offset, PartitionId};
use object_store::path::Path;

const DOCUMENT_NAME_BYTES_MAX: usize = 64;

/// The names below one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `v1`, with the prefix in front.
    root: String,
}

impl Names {
    /// Names below a prefix, which may be empty; slashes around it do not count.
    pub fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Self {
            root: format!("{prefix}{slash}v1"),
        }
    }

    /// Where all segments are.
    pub fn partitions(&self) -> Path {
        Path::from(format!("{}/partitions", self.root))
    }

    /// A segment.
    pub fn segment(&self, partition: PartitionId, id: ObjectId) -> Path {
        let ObjectId {
            first_offset,
            generation,
            epoch,
        } = id;
        Path::from(format!(
            "{}/partitions/{:010}/{:020}-{generation:010}-{:010}.seg",
            self.root, partition.0, first_offset.0, epoch.0
        ))
    }

    /// The partition and the segment that a name means.
    pub fn parse_segment(&self, path: &Path) -> Option<(PartitionId, ObjectId)> {
        let rest = path.as_ref().strip_prefix(&self.root)?;
        let (partition, name) = rest.strip_prefix("/partitions/")?.split_once('/')?;
        let mut parts = name.strip_suffix(".seg")?.split('-');
        let id = ObjectId {
            first_offset: Offset(number(parts.next()?, 20)?),
            generation: u32::try_from(number(parts.next()?, 10)?).ok()?,
            epoch: TierEpoch(u32::try_from(number(parts.next()?, 10)?).ok()?),
        };
        let partition = u32::try_from(number(partition, 10)?).ok()?;
        parts
            .next()
            .is_none()
            .then_some((PartitionId(partition), id))
    }

    /// Where all manifests are.
    pub fn manifests(&self) -> Path {
        Path::from(format!("{}/manifests", self.root))
    }

    /// The row of a partition's manifests.
    pub fn manifest_row(&self, partition: PartitionId) -> Row {
        Row(format!("{}/manifests/{:010}", self.root, partition.0))
    }

    /// The partition and the version that a manifest's name means.
    pub fn parse_manifest(&self, path: &Path) -> Option<(PartitionId, u64)> {
        let rest = path.as_ref().strip_prefix(&self.root)?;
        let (partition, version) = rest.strip_prefix("/manifests/")?.split_once('/')?;
        let partition = u32::try_from(number(partition, 10)?).ok()?;
        Some((PartitionId(partition), number(version, 20)?))
    }

    /// The row of the owners.
    pub fn owner_row(&self) -> Row {
        Row(format!("{}/owner", self.root))
    }

    /// The row of a document's versions; `None` unless the name has 1 to 64 of `a`-`z`, `0`-`9`, `-`.
    pub fn document_row(&self, name: &str) -> Option<Row> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=DOCUMENT_NAME_BYTES_MAX).contains(&name.len());
        let row = || Row(format!("{}/documents/{name}", self.root));
        (fits && name.bytes().all(good)).then(row)
    }

    /// What a probe creates.
    pub fn probe(&self, number: u64) -> Path {
        Path::from(format!("{}/probe/{number:020}", self.root))
    }
}

/// A row of numbered objects, of which the newest counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(String);

impl Row {
    /// Where its objects are.
    pub fn dir(&self) -> Path {
        Path::from(self.0.as_str())
    }

    /// One of its objects.
    pub fn name(&self, version: u64) -> Path {
        Path::from(format!("{}/{version:020}", self.0))
    }

    /// The version that a name means.
    pub fn parse(&self, path: &Path) -> Option<u64> {
        number(path.as_ref().strip_prefix(&self.0)?.strip_prefix('/')?, 20)
    }
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let good = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(first_offset: u64, generation: u32, epoch: u32) -> ObjectId {
        ObjectId {
            first_offset: Offset(first_offset),
            generation,
            epoch: TierEpoch(epoch),
        }
    }

    proptest! {
        #[test]
        fn names_come_back_and_sort_as_their_numbers(
            a in any::<(u32, u64, u32, u32)>(), b in any::<(u32, u64, u32, u32)>(),
        ) {
            let names = Names::new("some/where");
            let name = |(p, o, g, e)| names.segment(PartitionId(p), id(o, g, e));
            let (p, o, g, e) = a;
            prop_assert_eq!(names.parse_segment(&name(a)), Some((PartitionId(p), id(o, g, e))));
            prop_assert_eq!(name(a).cmp(&name(b)), a.cmp(&b));
            let row = names.manifest_row(PartitionId(p));
            prop_assert_eq!(row.parse(&row.name(o)), Some(o));
            prop_assert_eq!(names.parse_manifest(&row.name(o)), Some((PartitionId(p), o)));
            prop_assert_eq!(row.name(a.1).cmp(&row.name(b.1)), a.1.cmp(&b.1));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let names = Names::new("");
            for path in [format!("v1/partitions/{text}"), format!("v1/manifests/{text}"), text] {
                let path = Path::from(path);
                if let Some((p, id)) = names.parse_segment(&path) {
                    prop_assert_eq!(names.segment(p, id), path.clone());
                }
                names.parse_manifest(&path);
                names.owner_row().parse(&path);
            }
        }
    }

    #[test]
    fn names_are_these() {
        let names = Names::new("/a/b/");
        assert_eq!(
            names.segment(PartitionId(1024), id(77, 2, 3)).as_ref(),
            "a/b/v1/partitions/0000001024/00000000000000000077-0000000002-0000000003.seg"
        );
        assert_eq!(
            names.manifest_row(PartitionId(7)).name(12).as_ref(),
            "a/b/v1/manifests/0000000007/00000000000000000012"
        );
        let names = Names::new("");
        assert_eq!(
            names.owner_row().name(1).as_ref(),
            "v1/owner/00000000000000000001"
        );
        let row = names.document_row("group-offsets").unwrap();
        assert_eq!(
            row.name(9).as_ref(),
            "v1/documents/group-offsets/00000000000000000009"
        );
        for bad in ["", "A", "a/b", "..", "a.b", &"a".repeat(65)] {
            assert_eq!(names.document_row(bad), None, "{bad}");
        }
    }
}
