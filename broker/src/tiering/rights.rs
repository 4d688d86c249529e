//! What this node may write into the bucket.
//!
//! Alone it has all of it. As one of a cluster it claims what it leads, once for each epoch of a shard and
//! each term of the catalog: whoever led before is fenced off by that.

use super::{Ground, Tiering, abort_unfinished};
use flowstone_tier::{Right, Scope, TierError};
use std::collections::BTreeMap;

/// What was claimed, and in which term.
pub(super) type Rights = BTreeMap<Scope, (u64, Right)>;

impl Tiering {
    /// The right to write as the leader of this term.
    ///
    /// # Errors
    /// [`TierError::Superseded`] for a term that is over, and why it cannot be claimed.
    pub(super) async fn right(
        &self,
        ground: &Ground,
        scope: Scope,
        term: u64,
    ) -> Result<Right, TierError> {
        let mut rights = self.rights.lock().await;
        match rights.get(&scope) {
            _ if self.cluster.is_none() => Ok(ground.since.into()),
            Some((known, right)) if *known == term => Ok(*right),
            Some((known, right)) if *known > term => {
                let epoch = right.epoch;
                Err(TierError::Superseded { scope, epoch })
            }
            _ => self.claim(&mut rights, ground, scope, term).await,
        }
    }

    /// As [`Self::right`], with an epoch above all others: for what other leaders have written.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn right_above_all(
        &self,
        ground: &Ground,
        scope: Scope,
        term: u64,
    ) -> Result<Right, TierError> {
        let mut rights = self.rights.lock().await;
        match self.cluster {
            None => Ok(ground.since.into()),
            Some(_) => self.claim(&mut rights, ground, scope, term).await,
        }
    }

    async fn claim(
        &self,
        rights: &mut Rights,
        ground: &Ground,
        scope: Scope,
        term: u64,
    ) -> Result<Right, TierError> {
        let claimed = ground.tier.claim(scope, term, ground.since, &self.who);
        let right = claimed.await?;
        tracing::info!(
            epoch = right.epoch.0,
            term,
            "the tier: this node writes for {scope}"
        );
        rights.insert(scope, (term, right));
        self.runtime.spawn(abort_unfinished(ground.tier.clone()));
        Ok(right)
    }
}
