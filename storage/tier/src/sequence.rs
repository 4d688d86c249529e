//! Rows of numbered objects of which the newest counts.
//!
//! ```text
//! version      n-2        n-1        n          n+1
//!              removed    there      newest     not there
//! ```
//! Versions are created one behind the other and removed from the oldest on, up to the one before the
//! newest; so what is there has no gaps, and the newest is the one whose successor is not there. That
//! is asked for by name: a list that lags may only begin the search too low.

use crate::error::TierError;
use crate::names::Row;
use crate::objects::{Created, Objects};
use bytes::Bytes;

/// How often a list is asked again that names what is gone.
const LIST_TRIES: usize = 4;
/// Versions that are asked for one by one before a list is asked again.
const STEPS_MAX: usize = 10_000;

/// The newest of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) version: u64,
    pub(crate) bytes: Bytes,
}

impl Objects {
    /// The newest object of a row. Looks no lower than `known`, which was there once; 0 is none.
    pub(crate) async fn newest(
        &self,
        row: &Row,
        known: u64,
        bytes_max: u64,
    ) -> Result<Option<Newest>, TierError> {
        for _ in 0..LIST_TRIES {
            let listed = self.versions(row, known).await?.pop();
            let from = listed.unwrap_or(known).max(1);
            if let Some(newest) = self.climb(row, from, bytes_max).await? {
                return Ok(Some(newest));
            }
            if listed.is_none() && known == 0 {
                return Ok(None);
            }
            // What was listed, or known, was replaced and removed: another one is there.
            crate::counters::add(&self.counters().retries, 1);
        }
        let dir = row.dir();
        Err(TierError::unavailable(format!(
            "the list of '{dir}' names only what is gone: it lags, or somebody else removes there"
        )))
    }

    /// The versions that a list names, from `known` on, in order.
    pub(crate) async fn versions(&self, row: &Row, known: u64) -> Result<Vec<u64>, TierError> {
        let after = known.checked_sub(1).map(|v| row.name(v));
        let listed = self.list(&row.dir(), after.as_ref()).await?;
        let mut versions: Vec<_> = listed
            .iter()
            .filter_map(|o| row.parse(&o.location))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Goes up from `version` to the last one that is there; `None` where it is not there itself.
    async fn climb(
        &self,
        row: &Row,
        mut version: u64,
        bytes_max: u64,
    ) -> Result<Option<Newest>, TierError> {
        let mut newest = None;
        for _ in 0..STEPS_MAX {
            match self.get_if_there(&row.name(version), bytes_max).await? {
                None => break,
                Some(bytes) => newest = Some(Newest { version, bytes }),
            }
            version += 1;
        }
        Ok(newest)
    }

    /// Creates a version of a row. Says [`Created::Ours`] also where the same bytes are there already.
    pub(crate) async fn append(
        &self,
        row: &Row,
        version: u64,
        bytes: &Bytes,
    ) -> Result<Created, TierError> {
        self.create(&row.name(version), bytes).await
    }

    /// Removes what is older than the version before `newest`, the oldest first; says how many.
    ///
    /// One after the other, and no further than the first failure: what is left has no gaps. The row is
    /// listed only the first time, afterwards it is known where it begins.
    pub(crate) async fn prune(&self, row: &Row, newest: u64) -> Result<usize, TierError> {
        let known = self.row_starts().get(row).copied();
        let start = match known {
            Some(start) => start,
            None => self
                .versions(row, 0)
                .await?
                .first()
                .copied()
                .unwrap_or(newest),
        };
        let mut removed = 0;
        for version in start..newest.saturating_sub(1) {
            self.delete(vec![row.name(version)]).await?;
            self.row_starts().insert(row.clone(), version + 1);
            removed += 1;
        }
        Ok(removed)
    }

    /// As [`Self::prune`], with a fresh list: for what another process left.
    pub(crate) async fn prune_listed(&self, row: &Row, newest: u64) -> Result<usize, TierError> {
        self.row_starts().remove(row);
        self.prune(row, newest).await
    }
}
