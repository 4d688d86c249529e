//! Documents: whole things that are kept beside the segments, such as the catalog.
//!
//! ```text
//! envelope of: epoch (4, little-endian), then the document
//! ```

use crate::envelope::{self, Kind};
use crate::error::TierError;
use crate::manifest::TierEpoch;
use crate::names::Row;
use crate::objects::Created;
use crate::owner::Right;
use crate::sequence::Newest;
use crate::tier::Tier;
use bytes::{Buf, Bytes};

/// A document is held in memory when it is stored and when it is read.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// More than the envelope and the epoch.
const FRAME_BYTES_MAX: u64 = 64;
/// Writers of our own epoch that may be faster before we give up.
const RACES_MAX: usize = 16;

/// A document as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its number in its row.
    pub version: u64,
    /// Who stored it.
    pub epoch: TierEpoch,
    /// What it says.
    pub bytes: Bytes,
}

impl Document {
    /// The bytes of a document in the bucket.
    pub fn encode(epoch: TierEpoch, bytes: &[u8]) -> Vec<u8> {
        envelope::seal(Kind::Document, &[&epoch.0.to_le_bytes(), bytes].concat())
    }

    /// Reads a document that has this number in its row; copies nothing of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(version: u64, bytes: &Bytes) -> Result<Self, String> {
        let mut body = bytes.slice_ref(envelope::open(Kind::Document, bytes)?);
        if body.len() < size_of::<u32>() {
            return Err("it has no epoch".into());
        }
        let epoch = TierEpoch(body.get_u32_le());
        let bytes = body;
        Ok(Self {
            version,
            epoch,
            bytes,
        })
    }
}

/// Where a document went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutDocument {
    /// Its number in its row.
    pub version: u64,
}

impl Tier {
    /// Stores a document as the newest of its name, of 1 to 64 of `a`-`z`, `0`-`9` and `-`.
    ///
    /// # Errors
    /// [`TierError::Fenced`], [`TierError::Superseded`] where a newer owner is there, [`TierError::Unavailable`],
    /// [`TierError::Refused`] for a name that is not allowed or a document over 256 MiB.
    pub async fn put_document(
        &self,
        name: &str,
        right: impl Into<Right>,
        bytes: &[u8],
    ) -> Result<PutDocument, TierError> {
        let row = self.document_row(name)?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            let have = bytes.len();
            return Err(TierError::refused(format!(
                "document '{name}' has {have} bytes, at most {DOCUMENT_BYTES_MAX} are allowed"
            )));
        }
        let right = right.into();
        let epoch = right.epoch;
        let sealed = Bytes::from(Document::encode(epoch, bytes));
        self.check_right(right).await?;
        let mut known = 0;
        for _ in 0..RACES_MAX {
            let newest = self.newest_document(&row, known).await?;
            known = newest.as_ref().map_or(0, |d| d.version);
            if let Some(newer) = newest.filter(|d| d.epoch > epoch) {
                return Err(right.overtaken(newer.epoch));
            }
            let version = known.saturating_add(1);
            if self.objects().append(&row, version, &sealed).await? == Created::Ours {
                self.check_right(right).await?;
                if let Err(e) = self.objects().prune(&row, version).await {
                    tracing::debug!(name, error = %e, "old documents stay for now");
                }
                return Ok(PutDocument { version });
            }
        }
        Err(TierError::unavailable(format!(
            "document '{name}' is being written by others all the time"
        )))
    }

    /// The newest document of a name; `None` where there is none.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], [`TierError::Damaged`], [`TierError::Refused`] for a name that is
    /// not allowed.
    pub async fn latest_document(&self, name: &str) -> Result<Option<Document>, TierError> {
        let row = self.document_row(name)?;
        self.newest_document(&row, 0).await
    }

    fn document_row(&self, name: &str) -> Result<Row, TierError> {
        self.names().document_row(name).ok_or_else(|| {
            TierError::refused(format!(
                "a document cannot be named '{}': take 1 to 64 of a-z, 0-9 and '-'",
                name.escape_debug()
            ))
        })
    }

    async fn newest_document(&self, row: &Row, known: u64) -> Result<Option<Document>, TierError> {
        let bytes_max = DOCUMENT_BYTES_MAX + FRAME_BYTES_MAX;
        let newest = self.objects().newest(row, known, bytes_max).await?;
        let Some(Newest { version, bytes }) = newest else {
            return Ok(None);
        };
        let bad = |what: String| TierError::damaged(row.name(version), what);
        Document::decode(version, &bytes).map(Some).map_err(bad)
    }
}
