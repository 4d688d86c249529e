//! Requests that must arrive in the order in which they were made: one after the other, by partition.

use flowstone_client::BoxFuture;
use flowstone_wire::PartitionId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// Requests that wait in a lane.
const WAITING_MAX: usize = 256;
/// A lane that was not used for so long goes.
const IDLE: Duration = Duration::from_secs(60);

type Job = BoxFuture<'static, ()>;

/// See the module.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<PartitionId, Sender<Job>>>);

impl Lanes {
    /// Runs a job behind those of its partition that came before; `false` if too many wait.
    pub(super) fn run(&self, runtime: &Handle, partition: PartitionId, job: Job) -> bool {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.get(&partition).filter(|lane| !lane.is_closed());
        if let Some(lane) = lane {
            return lane.try_send(job).is_ok();
        }
        lanes.retain(|_, lane| !lane.is_closed());
        let (lane, jobs) = channel(WAITING_MAX);
        let is_taken = lane.try_send(job).is_ok();
        runtime.spawn(work(jobs));
        lanes.insert(partition, lane);
        is_taken
    }
}

async fn work(mut jobs: Receiver<Job>) {
    while let Ok(Some(job)) = timeout(IDLE, jobs.recv()).await {
        job.await;
    }
    // What came in this very moment is still done.
    jobs.close();
    while let Some(job) = jobs.recv().await {
        job.await;
    }
}
