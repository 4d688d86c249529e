//! Windows: whatever the order in which records came, each is in the one report of its window or among
//! the late ones, or its window is one of the last, which nothing closes.

use super::exactly_once::View;
use crate::pipelines::{self, WINDOW_MS, number, text};
use crate::record::Rec;
use crate::world::{LATE, MIDDLE, WINDOWS};
use std::collections::{BTreeMap, BTreeSet};

/// A key and the start of a window.
type Place<'a> = (&'a str, i64);

/// Records of a window, and the sum of what they say.
type Counts = BTreeMap<(String, i64), (i64, i64)>;

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    if !view.runs(pipelines::WINDOWS) {
        return Ok(());
    }
    let mut late_known = 0;
    for task in view.tasks(&MIDDLE) {
        let (mut open, late) = arrived(view, &task)?;
        late_known += late;
        check_reports(view, &task, &mut open)?;
        let last = last_window(view, &task);
        open.retain(|(_, start), (count, _)| *count != 0 && *start < last);
        if let Some((window, counts)) = open.first_key_value().filter(|_| view.whole) {
            return Err(format!(
                "exactly once: window {window:?} with {counts:?} is not reported"
            ));
        }
    }
    match view.records(LATE[1]).count() {
        late if late == late_known => Ok(()),
        late => Err(format!(
            "exactly once: of {late} late records {late_known} ever came"
        )),
    }
}

fn start_of(record: &Rec) -> i64 {
    record.timestamp - record.timestamp.rem_euclid(WINDOW_MS)
}

fn n_of(record: &Rec) -> i64 {
    number(&record.value, "n").unwrap_or_default()
}

/// What a task has to report: all that came, without what came too late. Also gives how many were late.
fn arrived(view: &View<'_>, task: &[usize]) -> Result<(Counts, usize), String> {
    let mut open = Counts::new();
    let mut came = BTreeMap::new();
    for r in task.iter().flat_map(|at| view.records(MIDDLE[*at])) {
        let window = open.entry((r.key.clone(), start_of(r))).or_default();
        *window = (window.0 + 1, window.1 + n_of(r));
        came.insert(text(&r.value, "id"), false);
    }
    let mut late = 0;
    for r in view.records(LATE[1]) {
        // Late records of other tasks never came here.
        let Some(before) = came.get_mut(text(&r.value, "id")) else {
            continue;
        };
        if std::mem::replace(before, true) {
            return Err(format!("exactly once: {r:?} is late twice"));
        }
        late += 1;
        let window = open.entry((r.key.clone(), start_of(r))).or_default();
        *window = (window.0 - 1, window.1 - n_of(r));
    }
    Ok((open, late))
}

/// Every report says what the window has, and there is no second one. Takes the reported windows out.
fn check_reports(view: &View<'_>, task: &[usize], open: &mut Counts) -> Result<(), String> {
    let mut reported: BTreeSet<Place<'_>> = BTreeSet::new();
    for r in task.iter().flat_map(|at| view.records(WINDOWS[*at])) {
        let start = number(&r.value, "window_start").unwrap_or_default();
        let place = (&r.key[..], start);
        let is = (
            number(&r.value, "count"),
            number(&r.value.replace(".0", ""), "sum"),
        );
        let wanted = open.remove(&(r.key.clone(), start)).unwrap_or_default();
        let is_second = !reported.insert(place);
        // What is late may still be on its way when its window is reported.
        let may_differ = !view.whole && is.0 < Some(wanted.0);
        if is_second || (is != (Some(wanted.0), Some(wanted.1)) && !may_differ) {
            return Err(format!(
                "exactly once: window {place:?} says {is:?}, should be {wanted:?}"
            ));
        }
    }
    Ok(())
}

/// The start of the windows that the closing records fall into: nothing closes them.
fn last_window(view: &View<'_>, task: &[usize]) -> i64 {
    let last = |at: &usize| view.records(MIDDLE[*at]).map(start_of).max();
    task.iter().filter_map(last).min().unwrap_or_default()
}
