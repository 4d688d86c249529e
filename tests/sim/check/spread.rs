//! What goes by another key: there once, in the partition of its key, in order as far as it comes from
//! one partition; and what is counted behind that.

use super::exactly_once::{View, ids, passes};
use crate::pipelines::{self, number, spread_key, text};
use crate::record::Rec;
use crate::world::{DOOMED, SOURCE, SPREAD, TALLY};
use flowstone_wire::partitioner::partition_for_key;
use std::collections::BTreeMap;

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    if view.runs(pipelines::SPREADS) {
        check_spread(view)?;
    }
    if view.runs(pipelines::TALLIES) {
        (0..SPREAD.len()).try_for_each(|at| check_tally(view, at))?;
    }
    if view.runs(pipelines::DOOMED) && view.dump.contains_key(&DOOMED) {
        check_doomed(view)?;
    }
    Ok(())
}

/// Where the record of a source goes to.
fn target(record: &Rec) -> usize {
    let key = spread_key(&record.value);
    partition_for_key(key.as_bytes(), SPREAD.len() as u32) as usize
}

fn check_spread(view: &View<'_>) -> Result<(), String> {
    for (to, partition) in SPREAD.iter().enumerate() {
        let is = view.ids(*partition);
        let mut known = 0;
        for (from, source) in SOURCE.iter().enumerate() {
            let wanted = ids(view.records(*source).filter(|r| target(r) == to));
            let of_source: Vec<&str> = is.iter().copied().filter(|i| wanted.contains(i)).collect();
            known += of_source.len();
            view.same(&format!("{from} spread to {to}"), &of_source, &wanted)?;
        }
        let stray = view.records(*partition).find(|r| {
            let at = target(r);
            at != to || r.key != spread_key(&r.value)
        });
        if known != is.len() || stray.is_some() {
            return Err(format!(
                "exactly once: {to} has {} records, {known} of them from the source: {stray:?}",
                is.len()
            ));
        }
    }
    Ok(())
}

/// A key is in one partition, so whatever the order there, the counts follow it.
fn check_tally(view: &View<'_>, at: usize) -> Result<(), String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    let good = view.records(SPREAD[at]).filter(|r| passes(r));
    let wanted: Vec<String> = good
        .map(|r| {
            let count = counts.entry(&r.key).or_default();
            *count += 1;
            format!("{} of {}: {count}", text(&r.value, "id"), r.key)
        })
        .collect();
    let shown = |r: &Rec| {
        let count = number(&r.value, "count").unwrap_or_default();
        format!("{} of {}: {count}", text(&r.value, "id"), r.key)
    };
    let is: Vec<String> = view.records(TALLY[at]).map(shown).collect();
    view.same(&format!("tally {at}"), &strs(&is), &strs(&wanted))
}

fn strs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// A copy of those partitions of the source that are elsewhere, as long as it is there.
fn check_doomed(view: &View<'_>) -> Result<(), String> {
    let here = view.world.shard_of(DOOMED);
    let is = view.ids(DOOMED);
    let mut known = 0;
    for (from, source) in SOURCE.iter().enumerate() {
        if view.world.shard_of(*source) == here {
            continue;
        }
        let wanted = view.ids(*source);
        let of_source: Vec<&str> = is.iter().copied().filter(|i| wanted.contains(i)).collect();
        known += of_source.len();
        view.same(&format!("doomed {from}"), &of_source, &wanted)?;
    }
    if known == is.len() {
        return Ok(());
    }
    Err(format!(
        "exactly once: nothing explains all of the doomed {is:?}"
    ))
}
