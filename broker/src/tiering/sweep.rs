//! What deleted topics have left in the bucket: it goes, however often the node ends on the way. The
//! catalog remembers it until then.

use super::rarely::Rarely;
use super::{TierResult, Tiering};
use crate::service::Service;
use flowstone_core::catalog::Command;
use flowstone_core::output::TierJob;
use flowstone_storage::Disk;
use flowstone_tier::{Scope, TierEpoch};
use flowstone_wire::PartitionId;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const LOOK: Duration = Duration::from_secs(1);
/// After a failure it is looked again this much later.
const RETRY: Duration = Duration::from_secs(15);

/// Runs until the node is gone.
pub(crate) async fn run(tiering: Weak<Tiering>, service: Weak<Service>, disk: Arc<dyn Disk>) {
    let (mut pause, mut told) = (LOOK, Rarely::default());
    loop {
        tokio::time::sleep(pause).await;
        let (Some(tiering), Some(service)) = (tiering.upgrade(), service.upgrade()) else {
            return;
        };
        pause = match sweep(&tiering, service, &disk).await {
            Ok(()) => {
                told.is_over();
                LOOK
            }
            Err(e) => {
                if told.is_due(Instant::now()) {
                    tracing::warn!("what a deleted topic has in the tier is removed later: {e}");
                }
                RETRY
            }
        };
    }
}

async fn sweep(
    tiering: &Arc<Tiering>,
    service: Arc<Service>,
    disk: &Arc<dyn Disk>,
) -> Result<(), String> {
    let catalog = service.catalog();
    if catalog.left_in_tier().next().is_none() {
        return Ok(());
    }
    // One node does it; leaders of shards have written there before.
    let (Some(term), ground) = (service.deciding_since(), tiering.ours()?) else {
        return Ok(());
    };
    let mut newest = TierEpoch::default();
    for partition in catalog.left_in_tier().flat_map(|(_, all)| all) {
        let manifest = ground.tier.manifest(*partition).await;
        newest = newest.max(manifest.map_err(|e| tiering.noted(e))?.epoch());
    }
    let leads = (Scope::Catalog, term);
    let right = tiering.right(&ground, leads, newest).await;
    right.map_err(|e| tiering.noted(e))?;
    for (topic, partitions) in catalog.left_in_tier() {
        for partition in partitions {
            remove(tiering, disk, leads, *partition).await?;
        }
        let forget = Command::ForgetInTier { topic };
        let forgotten = service.clone().command(forget).await;
        forgotten.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Waits its turn behind what is under way for the partition.
async fn remove(
    tiering: &Arc<Tiering>,
    disk: &Arc<dyn Disk>,
    leads: (Scope, u64),
    partition: PartitionId,
) -> Result<(), String> {
    let (sender, receiver) = oneshot::channel();
    let tell = move |_, result: TierResult| drop(sender.send(result));
    // It uploads nothing: where files would be does not matter.
    let job = TierJob::none_of(partition);
    tiering.bring_up(disk.clone(), PathBuf::new(), leads, job, tell);
    match receiver.await {
        Ok(result) => result.map(drop),
        Err(_) => Err("the node is stopping".into()),
    }
}
