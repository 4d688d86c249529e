//! Rows of numbered objects of which the newest counts.
//!
//! ```text
//! version      n-2        n-1        n          n+1
//!              removed    there      newest     not there
//! ```
//! Versions are created one behind the other and removed from the oldest on, up to the one before the
//! newest; so what is there has no gaps, and the newest is the one whose successor is not there. That
//! is asked for by name: a list that lags may only begin the search too low. Before the first version
//! of a row is removed, version 0 is created to stay: who sees nothing and finds it knows that it was
//! told wrong.

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
            if listed.is_none() && known == 0 && self.head(&row.name(0)).await?.is_none() {
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

    /// The versions above 0 that a list names, from `known` on, in order.
    pub(crate) async fn versions(&self, row: &Row, known: u64) -> Result<Vec<u64>, TierError> {
        let after = known.checked_sub(1).map(|v| row.name(v));
        let listed = self.list(&row.dir(), after.as_ref()).await?;
        let versions = listed.iter().filter_map(|o| row.parse(&o.location));
        let mut versions: Vec<_> = versions.filter(|v| *v > 0).collect();
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
                None => return Ok(newest),
                Some(bytes) => newest = Some(Newest { version, bytes }),
            }
            version = version.saturating_add(1);
        }
        let dir = row.dir();
        Err(TierError::unavailable(format!(
            "the list of '{dir}' lags by more than {STEPS_MAX} versions"
        )))
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
            None => self.begin_pruning(row, newest).await?,
        };
        let mut removed = 0;
        for version in start..newest.saturating_sub(1) {
            self.delete(vec![row.name(version)]).await?;
            self.row_starts().insert(row.clone(), version + 1);
            removed += 1;
        }
        Ok(removed)
    }

    /// Marks a row as one that does not begin with version 1, and says where it begins.
    async fn begin_pruning(&self, row: &Row, newest: u64) -> Result<u64, TierError> {
        let listed = self.versions(row, 0).await?.first().copied();
        let mut start = listed.unwrap_or(newest);
        while start > 1 && self.head(&row.name(start - 1)).await?.is_some() {
            start -= 1;
        }
        if start.saturating_add(1) < newest {
            self.create(&row.name(0), &Bytes::new()).await?;
        }
        Ok(start)
    }

    /// As [`Self::prune`], with a fresh list: for what another process left.
    pub(crate) async fn prune_listed(&self, row: &Row, newest: u64) -> Result<usize, TierError> {
        self.row_starts().remove(row);
        self.prune(row, newest).await
    }
}
