//! Pipelines, for operators: how they stand, and what can be done to them.

use super::{GroupOffset, Request};
use serde::{Deserialize, Serialize};

/// Asks how the pipelines stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPipelines {}
request!(ListPipelines = 12 -> Vec<PipelineStatus>);

/// How a pipeline stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// `running`, `retrying` or `stopped`.
    pub state: String,
    /// Its tasks' positions.
    pub positions: Vec<GroupOffset>,
    /// Records not yet processed.
    pub lag: u64,
    /// Records processed since the start.
    pub processed: u64,
    /// Records given out since the start.
    pub emitted: u64,
    /// Bytes given out for partitions of other shards and not known to be there yet.
    pub outbound_bytes: u64,
    /// Records that went to the dead-letter topic since the start.
    pub failed: u64,
    /// Records that came too late since the start.
    pub late: u64,
    /// From append to processed, median, microseconds.
    pub latency_p50_us: f64,
    /// From append to processed, 99th percentile, microseconds.
    pub latency_p99_us: f64,
    /// Up to where event time has come, milliseconds since 1970: the lowest of its tasks; `None` as long as
    /// one of them does not know.
    pub watermark_ms: Option<i64>,
    /// Memory of state and timers, in bytes.
    pub state_bytes: u64,
    /// What its operators have done, in their order; none where it is not of SQL.
    pub operators: Vec<OperatorStatus>,
    /// State that is on disk only, in bytes, as far as it was counted.
    pub spilled_bytes: u64,
}

/// The work of one operator of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorStatus {
    /// Its number in the plan, and what it is.
    pub name: String,
    /// Rows that it has taken since the start; of a row that has changed, it as it was and as it is.
    pub rows_in: u64,
    /// Rows that it has given to the next one since the start; of the last one, records that it has given out.
    pub rows_out: u64,
    /// Records that it found too late since the start.
    pub late: u64,
    /// Records and timers that failed in it and went to the dead-letter topic since the start.
    pub failed: u64,
    /// Memory of its state and timers, in bytes.
    pub state_bytes: u64,
}

/// Deploys the pipelines of a text of SQL, and keeps its streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployPipelines {
    /// The statements.
    pub text: String,
    /// Only say what would be deployed, and how it would run.
    pub dry_run: bool,
    /// The pipelines are there, and go on as they are said now, with the state that they have.
    pub upgrade: bool,
}
request!(DeployPipelines = 18 -> Vec<PipelineDescription>);

/// Asks what was deployed: of this pipeline, or of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribePipelines {
    /// Its name; `None` for all.
    pub name: Option<String>,
}
request!(DescribePipelines = 19 -> Vec<PipelineDescription>);

/// A pipeline of SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineDescription {
    /// Its name.
    pub name: String,
    /// `running`, `paused`, `planned` if it was not deployed, or `refused` and why.
    pub state: String,
    /// Its statement.
    pub statement: String,
    /// How it runs: its operators, one a line.
    pub plan: String,
    /// Topics that it reads.
    pub sources: Vec<String>,
    /// Topics that it writes.
    pub sinks: Vec<String>,
}

/// A pipeline with what it has done, as JSON shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipelineShown {
    /// What was deployed.
    #[serde(flatten)]
    pub description: PipelineDescription,
    /// What its tasks have done since they were started; `None` where it does not run.
    pub numbers: Option<PipelineStatus>,
}

/// Pauses, resumes or deletes a pipeline that was deployed, or has it done again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPipeline {
    /// Its name.
    pub name: String,
    /// What is to be done.
    pub action: PipelineAction,
}
request!(ControlPipeline = 20 -> ());

/// What can be done to a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PipelineAction {
    /// It rests where it is.
    Pause,
    /// It goes on from there.
    Resume,
    /// It stops and is forgotten, with its state; its topics stay.
    Delete,
    /// It is done again beside itself, as `NAME.replay`, from the records of this time on, milliseconds since
    /// 1970; from the start without one.
    Replay {
        /// The time.
        from_ms: Option<i64>,
    },
    /// What was done again takes its place, as soon as it is as far.
    Switch,
}

/// Runs the pipelines of a text over the last records of their topics, and keeps nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryPipelines {
    /// The statements.
    pub text: String,
    /// The pipelines are there already.
    pub upgrade: bool,
    /// How many records of each topic, 1 to [`TRIAL_RECORDS_MAX`]; of a table it is all.
    pub records: u64,
}
request!(TryPipelines = 25 -> Vec<PipelineTrial>);

/// Most records of a topic for one trial.
pub const TRIAL_RECORDS_MAX: u64 = 1_000_000;

/// What a pipeline made of the last records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineTrial {
    /// Its name.
    pub name: String,
    /// Why it was not tried, or not to the end.
    pub refused: Option<String>,
    /// Records that it took.
    pub records: u64,
    /// Results that it gave out. What waits for later records, such as windows that are open, is none.
    pub rows: u64,
    /// Records that came too late.
    pub late: u64,
    /// Records that would go to the dead letters.
    pub failed: u64,
    /// Where the first of them is, and why.
    pub first_failure: Option<String>,
    /// Memory of state and timers at the end, in bytes.
    pub state_bytes: u64,
    /// The first results, as text.
    pub sample: Vec<String>,
}
