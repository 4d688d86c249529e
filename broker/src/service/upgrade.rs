//! Pipelines of SQL that go on as they are said now, with the state that they have.

use super::Service;
use super::sql::{Fresh, Part, describe, parts_of, plan};
use flowstone_core::catalog::{Command, Deployed};
use flowstone_sql::front_name;
use flowstone_wire::native::PipelineDescription;
use flowstone_wire::{ErrorCode, Failure};
use std::sync::Arc;

/// A part of a pipeline as it will be, and the plan that it has until then.
type Next = (Part, String);

impl Service {
    /// Lets pipelines go on as a text says, all or none; or only says whether that can be.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] with line and column for what is not understood, for pipelines that are not
    /// there, and for those whose state does not fit the new plan, with what differs.
    pub(super) async fn upgrade_sql(
        self: Arc<Self>,
        text: String,
        dry_run: bool,
    ) -> Result<Vec<PipelineDescription>, Failure> {
        let this = self.clone();
        let read = move || {
            let file = this.read(&text, true)?;
            let next = file.pipelines.iter().map(|fresh| this.next_of(fresh));
            let next = next.collect::<Result<Vec<_>, Failure>>()?;
            Ok((file, next))
        };
        let (file, next) = self.aside(read).await?;
        let (mut described, mut pipelines) = (Vec::new(), Vec::new());
        let state = if dry_run { "planned" } else { "running" };
        for (fresh, parts) in file.pipelines.into_iter().zip(next) {
            for (part, before) in parts {
                described.push(describe(&part, &fresh.statement, state));
                let deployed = Deployed {
                    streams: fresh.streams.clone(),
                    statement: fresh.statement.clone(),
                    plan: part.explained,
                    paused: false,
                };
                pipelines.push((part.pipeline.name().to_string(), before, deployed));
            }
        }
        if dry_run {
            return Ok(described);
        }
        let streams = file.streams;
        let command = Command::Upgrade { streams, pipelines };
        self.clone().command(command).await?;
        self.follow_deployed().await;
        Ok(described)
    }

    /// The parts of a pipeline as they will be: in as many as it has now.
    fn next_of(&self, fresh: &Fresh) -> Result<Vec<Next>, Failure> {
        let catalog = self.catalog();
        let name = fresh.planned.pipeline.name();
        let is_spread = catalog.deployed_as(&front_name(name)).is_ok();
        let parts = parts_of(&fresh.planned, if is_spread { usize::MAX } else { 1 });
        if is_spread && parts.len() == 1 {
            return Err(refused(name, "it would run in one part, and has two"));
        }
        let next = parts.into_iter().map(|part| {
            let deployed = catalog.deployed_as(part.pipeline.name())?;
            let before = plan(part.pipeline.name(), deployed)?;
            fits(name, &before, &part)?;
            Ok((part, deployed.plan.clone()))
        });
        next.collect()
    }
}

/// Whether a part can go on as another one.
fn fits(name: &str, before: &Part, after: &Part) -> Result<(), Failure> {
    if before.pipeline.sources() != after.pipeline.sources() {
        return Err(refused(name, "it would read other topics"));
    }
    let mut both = before.signature.iter().zip(&after.signature);
    if let Some((old, new)) = both.find(|(old, new)| old != new) {
        let what = format!("its state is of '{old}', and it would be '{new}'");
        return Err(refused(name, &what));
    }
    if before.signature.len() != after.signature.len() {
        let (old, new) = (before.signature.len() - 1, after.signature.len() - 1);
        let what = format!("it has {old} operators with windows or state, and would have {new}");
        return Err(refused(name, &what));
    }
    Ok(())
}

fn refused(name: &str, why: &str) -> Failure {
    let what = format!(
        "pipeline '{name}' cannot keep its state: {why}; delete it and deploy it again, or deploy it under another \
         name"
    );
    Failure::new(ErrorCode::InvalidRequest, what)
}
