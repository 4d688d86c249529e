//! Each input record counts exactly once: the outputs of the pipelines against a model of a few
//! lines over what the source holds at the end.

use super::{Dump, Part};
use crate::pipelines::{BAD, STUBBORN, WINDOW_MS, number, text};
use crate::record::Rec;
use crate::world::{COPY, DLQ, LATE, MIDDLE, SOURCE, WINDOWS};
use flowstone_wire::PartitionId;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(dump: &Dump) -> Result<(), String> {
    check_chain(dump)?;
    check_windows(dump)
}

/// The pipelines that do not wait for time to pass.
pub(crate) fn check_chain(dump: &Dump) -> Result<(), String> {
    for at in 0..SOURCE.len() {
        check_middle(part(dump, SOURCE[at]), part(dump, MIDDLE[at]), at)?;
        let (is, wanted) = (values(part(dump, COPY[at])), values(part(dump, SOURCE[at])));
        same(&format!("copy {at}"), &is, &wanted)?;
    }
    check_dead_letters(dump)?;
    check_counts(dump)
}

fn part(dump: &Dump, partition: PartitionId) -> &Part {
    &dump[&partition]
}

fn records(part: &Part) -> impl Iterator<Item = &Rec> {
    part.records.iter().map(|(_, r)| r)
}

fn values(part: &Part) -> Vec<&str> {
    records(part).map(|r| &r.value[..]).collect()
}

fn ids(part: &Part) -> impl Iterator<Item = &str> {
    records(part).map(|r| text(&r.value, "id"))
}

fn same(what: &str, is: &[&str], wanted: &[&str]) -> Result<(), String> {
    if is == wanted {
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

fn passes(record: &Rec) -> bool {
    ![BAD, STUBBORN].contains(&text(&record.value, "do"))
}

/// What passes the stage that counts is in the middle once, in order.
fn check_middle(source: &Part, middle: &Part, at: usize) -> Result<(), String> {
    let good = records(source).filter(|r| passes(r));
    let wanted: Vec<&str> = good.map(|r| text(&r.value, "id")).collect();
    same(
        &format!("middle {at}"),
        &ids(middle).collect::<Vec<_>>(),
        &wanted,
    )
}

/// What does not pass is in the dead letters once.
fn check_dead_letters(dump: &Dump) -> Result<(), String> {
    let sources = SOURCE.iter().flat_map(|p| records(part(dump, *p)));
    let mut wanted: Vec<&str> = sources
        .filter(|r| !passes(r))
        .map(|r| text(&r.value, "id"))
        .collect();
    let mut is: Vec<&str> = ids(part(dump, DLQ[0])).collect();
    wanted.sort_unstable();
    is.sort_unstable();
    same("dead letters", &is, &wanted)?;
    for dlq in &DLQ[1..] {
        same("dead letters of the others", &values(part(dump, *dlq)), &[])?;
    }
    Ok(())
}

/// The counts of a key are 1, 2, 3, ..., each once.
fn check_counts(dump: &Dump) -> Result<(), String> {
    let mut counts: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for r in MIDDLE.iter().flat_map(|p| records(part(dump, *p))) {
        let count = number(&r.value, "count").unwrap_or_default();
        counts.entry(&r.key).or_default().push(count);
    }
    for (key, mut counts) in counts {
        counts.sort_unstable();
        if !counts.iter().copied().eq(1..=counts.len() as i64) {
            return Err(format!(
                "exactly once: the counts of '{key}' are {counts:?}"
            ));
        }
    }
    Ok(())
}

/// Every record of the middle is in the one report of its window, or among the late ones, or its
/// window is one of the last, which nothing closes.
fn check_windows(dump: &Dump) -> Result<(), String> {
    let mut open: BTreeMap<(&str, i64), (i64, i64)> = BTreeMap::new();
    for r in MIDDLE.iter().flat_map(|p| records(part(dump, *p))) {
        let window = open
            .entry((&r.key, r.timestamp - r.timestamp.rem_euclid(WINDOW_MS)))
            .or_default();
        *window = (
            window.0 + 1,
            window.1 + number(&r.value, "n").unwrap_or_default(),
        );
    }
    for r in records(part(dump, LATE[1])) {
        let Some(window) = open.get_mut(&(&r.key, r.timestamp - r.timestamp.rem_euclid(WINDOW_MS)))
        else {
            return Err(format!("exactly once: {r:?} is late and never came"));
        };
        *window = (
            window.0 - 1,
            window.1 - number(&r.value, "n").unwrap_or_default(),
        );
    }
    let mut reported = BTreeSet::new();
    for r in WINDOWS.iter().flat_map(|p| records(part(dump, *p))) {
        let start = number(&r.value, "window_start").unwrap_or_default();
        let place = (&r.key[..], start);
        let is = (
            number(&r.value, "count"),
            number(&r.value.replace(".0", ""), "sum"),
        );
        let wanted = open.remove(&place).unwrap_or_default();
        if !reported.insert(place) || is != (Some(wanted.0), Some(wanted.1)) {
            return Err(format!(
                "exactly once: window {place:?} says {is:?}, should be {wanted:?}"
            ));
        }
    }
    let last = last_window(dump);
    open.retain(|(_, start), (count, _)| *count != 0 && *start < last);
    match open.first_key_value() {
        Some((window, counts)) => Err(format!(
            "exactly once: window {window:?} with {counts:?} is not reported"
        )),
        None => Ok(()),
    }
}

/// The start of the windows that the closing records fall into: nothing closes them.
fn last_window(dump: &Dump) -> i64 {
    let last = |p: &PartitionId| records(part(dump, *p)).map(|r| r.timestamp).max();
    let lowest = MIDDLE.iter().filter_map(last).min().unwrap_or_default();
    lowest - lowest.rem_euclid(WINDOW_MS)
}
