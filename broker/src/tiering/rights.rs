//! What this node may write into the bucket.
//!
//! Alone it has all of it. As one of a cluster it claims what it leads, once for each epoch of a shard and
//! each term of the catalog: whoever led before is fenced off by that.

use super::{Ground, Tiering, abort_unfinished};
use flowstone_tier::{Right, Scope, TierEpoch, TierError};
use std::collections::BTreeMap;

/// What was claimed, and in which term.
pub(super) type Rights = BTreeMap<Scope, (u64, Right)>;

impl Tiering {
    /// The right to write as the leader of this term, under an epoch that is not below `least`: others may
    /// have written what this one goes on with.
    ///
    /// # Errors
    /// [`TierError::Superseded`] for a term that is over, and why it cannot be claimed.
    pub(super) async fn right(
        &self,
        ground: &Ground,
        (scope, term): (Scope, u64),
        least: TierEpoch,
    ) -> Result<Right, TierError> {
        if self.cluster.is_none() {
            return Ok(ground.since.into());
        }
        let mut rights = self.rights.lock().await;
        match rights.get(&scope) {
            Some((known, right)) if *known > term => {
                let epoch = right.epoch;
                return Err(TierError::Superseded { scope, epoch });
            }
            Some((known, right)) if *known == term && right.epoch >= least => return Ok(*right),
            _ => {}
        }
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
