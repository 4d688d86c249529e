//! How the copies of this node stand: told to whoever decides, together.

use crate::service::Service;
use flowstone_core::replica::Report;
use flowstone_wire::ShardId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Reports that come within this go together.
const TOGETHER: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Those that were not sent yet.
    told: Mutex<BTreeMap<ShardId, Report>>,
    changed: Notify,
}

impl Reports {
    fn told(&self) -> MutexGuard<'_, BTreeMap<ShardId, Report>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, shard: ShardId, report: Report) {
        self.told().insert(shard, report);
        self.changed.notify_one();
    }

    fn news(&self) -> Vec<(ShardId, Report)> {
        std::mem::take(&mut *self.told()).into_iter().collect()
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
