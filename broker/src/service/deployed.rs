//! Tasks of the pipelines that the catalog has: each node starts and stops them on its own shards,
//! whichever node was asked to.

use super::Service;
use super::sql::plan;
use crate::pipelines::topics_in;
use flowstone_core::catalog::{Deployed, Starts};
use flowstone_core::{Catalog, Input};
use flowstone_wire::{ErrorCode, Failure};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A pipeline that could not be started is started again after so long, if nothing changes before.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a node has done about the deployed pipelines.
#[derive(Debug, Default)]
pub(crate) struct Following {
    /// The pipelines that the shards were told to be all; `None` before they were told anything.
    told: Option<BTreeSet<u32>>,
    /// Those whose tasks were started, by number, with their names and as they were said.
    running: BTreeMap<u32, (String, Deployed)>,
    /// What was said of those that could not be, so that it is said once.
    failed: BTreeMap<u32, String>,
}

/// What pipelines there are, for a shard that may have something of others.
pub(super) fn forget_others(catalog: &Catalog) -> Input {
    let (known, below) = catalog.pipeline_numbers();
    Input::ForgetTasks { known, below }
}

impl Service {
    /// Starts the tasks of what is deployed and does not rest, and stops those of all else. A pipeline
    /// that cannot be planned any more is reported, and the others run. Gives whether all run.
    pub(crate) async fn follow_deployed(self: &Arc<Self>) -> bool {
        // One at a time, so that the newest catalog is followed last.
        let mut following = self.following.lock().await;
        let catalog = self.catalog();
        let running = catalog.deployed().filter(|(_, d)| !d.paused);
        let wanted: BTreeMap<u32, (&str, &Deployed)> = running
            .filter_map(|(name, d)| Some((catalog.pipeline(name)?, (name, d))))
            .collect();
        following.failed.retain(|id, _| wanted.contains_key(id));
        let is_gone = |(id, (name, as_said)): &(&u32, &(String, Deployed))| {
            let wanted = wanted.get(id);
            wanted.is_none_or(|(wanted_name, wanted)| wanted_name != name || *wanted != as_said)
        };
        let gone = following.running.iter().filter(is_gone);
        let gone: Vec<u32> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            following.running.remove(&id);
            self.stop_tasks(id);
        }
        for (id, (name, deployed)) in wanted {
            if following.running.contains_key(&id) {
                continue;
            }
            let starts = catalog.starts_of(name).cloned().unwrap_or_default();
            let as_said = (name.to_string(), deployed.clone());
            match self
                .clone()
                .start_deployed(id, as_said.clone(), starts)
                .await
            {
                Ok(()) => {
                    following.running.insert(id, as_said);
                    following.failed.remove(&id);
                }
                Err(failure) => {
                    let why = failure.to_string();
                    if following.failed.get(&id) != Some(&why) {
                        tracing::error!("pipeline '{name}' does not run: {why}");
                        following.failed.insert(id, why);
                    }
                }
            }
        }
        let (known, _) = catalog.pipeline_numbers();
        if following.told.as_ref() != Some(&known) {
            for shard in self.all_shards() {
                self.tell_shard(shard, forget_others(&catalog));
            }
            following.told = Some(known);
        }
        following.failed.is_empty()
    }

    /// Follows what any node deploys, as long as the service is there.
    pub(crate) async fn keep_deployed(this: Weak<Self>) {
        let changes = this.upgrade().map(|service| service.catalog.watch());
        let Some(mut changes) = changes else {
            return;
        };
        loop {
            let Some(service) = this.upgrade() else {
                return;
            };
            let all_run = service.follow_deployed().await;
            drop(service);
            let changed = changes.changed();
            let over = if all_run {
                changed.await.is_err()
            } else {
                let waited = tokio::time::timeout(AGAIN_AFTER, changed).await;
                matches!(waited, Ok(Err(_)))
            };
            if over {
                return;
            }
        }
    }

    async fn start_deployed(
        self: Arc<Self>,
        id: u32,
        (name, deployed): (String, Deployed),
        starts: Starts,
    ) -> Result<(), Failure> {
        let (of, as_said) = (name.clone(), deployed.clone());
        let planned = self.aside(move || plan(&of, &as_said)).await?;
        // Names of topics are those of the catalog that has the pipeline so.
        let catalog = self.catalog();
        let is_as_said = catalog.pipeline(&name) == Some(id)
            && catalog.deployed_as(&name).is_ok_and(|d| *d == deployed);
        if !is_as_said {
            let what = format!("pipeline '{name}' has changed meanwhile");
            return Err(Failure::new(ErrorCode::Stale, what));
        }
        match topics_in(&catalog, &planned.pipeline) {
            Some(topics) => {
                self.follow_catalog();
                self.start_tasks(id, &planned.pipeline, &starts, &topics);
                Ok(())
            }
            None => self.start_pipeline(id, planned.pipeline, starts).await,
        }
    }

    fn stop_tasks(&self, id: u32) {
        for shard in self.all_shards() {
            self.forget_task(shard, id);
            self.tell_shard(shard, Input::StopTask { id });
        }
    }
}
