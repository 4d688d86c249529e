//! How the copies of this node stand: told to whoever decides, together, and kept for who asks.

use crate::service::Service;
use flowstone_core::replica::Report;
use flowstone_wire::ShardId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Reports that come within this go together.
const TOGETHER: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Told {
    latest: BTreeMap<ShardId, Report>,
    /// Those that were not sent yet.
    news: BTreeSet<ShardId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reports {
    told: Mutex<Told>,
    changed: Notify,
}

impl Reports {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, shard: ShardId, report: Report) {
        let mut told = self.told();
        told.latest.insert(shard, report);
        told.news.insert(shard);
        drop(told);
        self.changed.notify_one();
    }

    pub(super) fn latest(&self) -> Vec<(ShardId, Report)> {
        let told = self.told();
        let all = told.latest.iter();
        all.map(|(shard, report)| (*shard, report.clone()))
            .collect()
    }

    fn news(&self) -> Vec<(ShardId, Report)> {
        let mut told = self.told();
        let news = std::mem::take(&mut told.news);
        let of = |shard| Some((shard, told.latest.get(&shard)?.clone()));
        news.into_iter().filter_map(of).collect()
    }
}

/// Sends what is new, as long as the service is there.
pub(super) fn run(reports: &Arc<Reports>, service: &Arc<Service>) {
    let (reports, weak) = (reports.clone(), Arc::downgrade(service));
    service.runtime().spawn(async move {
        loop {
            reports.changed.notified().await;
            tokio::time::sleep(TOGETHER).await;
            let Some(service) = weak.upgrade() else {
                return;
            };
            service.report(reports.news());
        }
    });
}
