//! Each input record counts exactly once: the outputs of the pipelines against a model of a few
//! lines over what their inputs hold.
//!
//! Before the end an output may be missing, but only behind all that are there: what a lane brings comes
//! in order, and no output is there without its cause.

use super::{Dump, Part, spread, windows};
use crate::pipelines::{self, BAD, STUBBORN, number, text};
use crate::record::Rec;
use crate::world::{COPY, DLQ, MIDDLE, SOURCE, SPREAD, World};
use flowstone_wire::{PartitionId, ShardId};
use std::collections::BTreeMap;

/// What is stored, and whether everything must have arrived.
pub(super) struct View<'a> {
    pub(super) world: &'a World,
    pub(super) dump: &'a Dump,
    pub(super) whole: bool,
}

impl View<'_> {
    pub(super) fn runs(&self, id: u32) -> bool {
        self.world.tasks.contains_key(&id)
    }

    pub(super) fn part(&self, partition: PartitionId) -> &Part {
        &self.dump[&partition]
    }

    pub(super) fn records(&self, partition: PartitionId) -> impl Iterator<Item = &Rec> {
        self.part(partition).records.iter().map(|(_, r)| r)
    }

    pub(super) fn ids(&self, partition: PartitionId) -> Vec<&str> {
        ids(self.records(partition))
    }

    /// The tasks of a pipeline, each as the indexes of the partitions that it reads.
    pub(super) fn tasks(&self, inputs: &[PartitionId]) -> Vec<Vec<usize>> {
        let mut tasks: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (at, partition) in inputs.iter().enumerate() {
            let shard = self.world.shard_of(*partition);
            tasks.entry(shard).or_default().push(at);
        }
        tasks.into_values().collect()
    }

    /// Holds an output against what should be there, or against the front of that.
    pub(super) fn same(&self, what: &str, is: &[&str], wanted: &[&str]) -> Result<(), String> {
        let upto = if self.whole {
            wanted.len()
        } else {
            is.len().min(wanted.len())
        };
        if *is == wanted[..upto] {
            return Ok(());
        }
        let at = is.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        Err(format!(
            "exactly once: {what} differs at {at} of {} and {}: is {:?}, should be {:?}",
            is.len(),
            wanted.len(),
            is.get(at..is.len().min(at + 3)),
            wanted.get(at..wanted.len().min(at + 3))
        ))
    }
}

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    check_chain(view)?;
    windows::check(view)?;
    spread::check(view)
}

/// The pipelines that stay with their key and do not wait for time to pass.
pub(super) fn check_chain(view: &View<'_>) -> Result<(), String> {
    for at in 0..SOURCE.len() {
        if view.runs(pipelines::COUNTS) {
            check_middle(view, at)?;
        }
        if view.runs(pipelines::COPIES) {
            let value = |r| -> &str { value_of(r) };
            let is: Vec<&str> = view.records(COPY[at]).map(value).collect();
            let wanted: Vec<&str> = view.records(SOURCE[at]).map(value).collect();
            view.same(&format!("copy {at}"), &is, &wanted)?;
        }
    }
    check_dead_letters(view)?;
    check_counts(view)
}

fn value_of(record: &Rec) -> &str {
    &record.value
}

pub(super) fn ids<'a>(records: impl Iterator<Item = &'a Rec>) -> Vec<&'a str> {
    records.map(|r| text(&r.value, "id")).collect()
}

pub(super) fn passes(record: &Rec) -> bool {
    ![BAD, STUBBORN].contains(&text(&record.value, "do"))
}

/// What passes the stage that counts is in the middle once, in order.
fn check_middle(view: &View<'_>, at: usize) -> Result<(), String> {
    let wanted = ids(view.records(SOURCE[at]).filter(|r| passes(r)));
    view.same(&format!("middle {at}"), &view.ids(MIDDLE[at]), &wanted)
}

/// What does not pass is in the dead letters once, and in order as far as it comes from one partition.
fn check_dead_letters(view: &View<'_>) -> Result<(), String> {
    for id in view.world.tasks.keys().copied() {
        let Some(dlq) = view.dump.get(&DLQ[id as usize - 1]) else {
            continue;
        };
        let is = ids(dlq.records.iter().map(|(_, r)| r));
        let inputs: &[PartitionId] = match id {
            pipelines::COUNTS => &SOURCE,
            pipelines::TALLIES => &SPREAD,
            _ => &[],
        };
        let mut known = 0;
        for (at, input) in inputs.iter().enumerate() {
            let wanted = ids(view.records(*input).filter(|r| !passes(r)));
            let of_input: Vec<&str> = is.iter().copied().filter(|l| wanted.contains(l)).collect();
            known += of_input.len();
            let what = format!("dead letters of partition {at} of pipeline {id}");
            view.same(&what, &of_input, &wanted)?;
        }
        if known != is.len() {
            return Err(format!(
                "exactly once: dead letters of pipeline {id} that nothing explains: {is:?}"
            ));
        }
    }
    Ok(())
}

/// The counts of a key are 1, 2, 3, ..., each once in the task that counts it, and they rise in every
/// partition.
fn check_counts(view: &View<'_>) -> Result<(), String> {
    for task in view.tasks(&SOURCE) {
        let mut counts: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for at in task {
            let mut last: BTreeMap<&str, i64> = BTreeMap::new();
            for r in view.records(MIDDLE[at]) {
                let count = number(&r.value, "count").unwrap_or_default();
                if last.insert(&r.key, count).is_some_and(|l| l >= count) {
                    return Err(format!(
                        "exactly once: the counts before {r:?} are no lower"
                    ));
                }
                counts.entry(&r.key).or_default().push(count);
            }
        }
        for (key, mut counts) in counts {
            counts.sort_unstable();
            let dense = counts.iter().copied().eq(1..=counts.len() as i64);
            let distinct = counts.windows(2).all(|w| w[0] < w[1]);
            if !distinct || (view.whole && !dense) {
                return Err(format!(
                    "exactly once: the counts of '{key}' are {counts:?}"
                ));
            }
        }
    }
    Ok(())
}
