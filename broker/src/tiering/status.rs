//! How the tier stands, for people and for the metrics.

use super::{State, Tiering};
use flowstone_core::output;
use flowstone_wire::native::TierStatus;

impl Tiering {
    /// How it stands, with what the shards say of it.
    pub(crate) fn status(&self, shards: &output::TierStatus, now_ms: i64, up_s: f64) -> TierStatus {
        let (state, why, ground) = match self.state() {
            State::Open(ground) => ("open", None, Some(ground)),
            State::Closed(why) => ("closed", Some(why), None),
            State::Lost(ground, why) => ("lost", Some(why), Some(ground)),
        };
        let counters = ground.as_ref().map(|g| g.tier.counters().snapshot());
        let done = counters.unwrap_or_default();
        let waits = shards.waiting_since_ms.map(|at| now_ms.saturating_sub(at));
        let mut status = TierStatus {
            url: self.config.store.url.clone(),
            state: state.into(),
            why,
            epoch: ground.map(|g| g.since.0),
            copied_bytes: shards.copied_bytes,
            remote_bytes: shards.remote_bytes,
            waiting_bytes: shards.waiting_bytes,
            waiting_ms: waits.map(|ms| u64::try_from(ms).unwrap_or(0)),
            failing: shards.failing,
            up_bytes: done.up_bytes,
            down_bytes: done.down_bytes,
            put_requests: done.put_requests,
            get_requests: done.get_requests,
            list_requests: done.list_requests,
            errors: done.errors,
            cache_hits: done.cache_hits,
            cache_misses: done.cache_misses,
            cache_bytes: done.cache_bytes,
            month_cost: None,
        };
        status.month_cost = self.config.prices.map(|p| p.month(&status, up_s));
        status
    }
}

/// Adds up what shards say.
pub(crate) fn sum(shards: impl Iterator<Item = output::TierStatus>) -> output::TierStatus {
    shards.fold(output::TierStatus::default(), |sum, one| {
        let since = [sum.waiting_since_ms, one.waiting_since_ms];
        output::TierStatus {
            copied_bytes: sum.copied_bytes + one.copied_bytes,
            remote_bytes: sum.remote_bytes + one.remote_bytes,
            waiting_bytes: sum.waiting_bytes + one.waiting_bytes,
            waiting_since_ms: since.into_iter().flatten().min(),
            failing: sum.failing || one.failing,
        }
    })
}
