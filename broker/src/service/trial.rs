//! Pipelines of SQL that are tried on the last records before they are deployed.

use super::Service;
use super::queries::Topics;
use flowstone_wire::native::{PipelineTrial, TRIAL_RECORDS_MAX, TryPipelines};
use flowstone_wire::{ErrorCode, Failure};
use std::sync::Arc;

impl Service {
    /// Runs the pipelines of a text over the last records of their topics, one after the other. Nothing is kept.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] with line and column for what is not understood. Why one pipeline cannot be
    /// tried is said with it.
    pub(crate) async fn try_sql(
        self: Arc<Self>,
        request: TryPipelines,
    ) -> Result<Vec<PipelineTrial>, Failure> {
        if !(1..=TRIAL_RECORDS_MAX).contains(&request.records) {
            let what = format!("a trial takes 1 to {TRIAL_RECORDS_MAX} records");
            return Err(Failure::new(ErrorCode::InvalidRequest, what));
        }
        let this = self.clone();
        let read = move || this.read(&request.text, request.upgrade);
        let file = self.aside(read).await?;
        let topics = Arc::new(Topics(self.clone()));
        let mut trials = Vec::new();
        for fresh in file.pipelines {
            let name = fresh.planned.pipeline.name().to_string();
            let tried = self
                .queries
                .try_pipeline(topics.clone(), fresh.planned, request.records);
            trials.push(tried.await.unwrap_or_else(|failure| PipelineTrial {
                name,
                refused: Some(failure.message),
                ..PipelineTrial::default()
            }));
        }
        Ok(trials)
    }
}
