//! The first rows of each group, whenever they change: `row_number() OVER (PARTITION BY ... ORDER BY ...)` without
//! a window, of which only the first few are wanted.
//!
//! ```text
//! state: number | values of the group | what it is ordered by | when it came  ->  a row
//!        number | values of the group | what it is ordered by | the row       ->  length of the order | how many
//! ```
//!
//! The first where rows are only added: those that are not wanted now never will be, and are not kept; when a row came
//! is counted among those that are. The second where rows can be taken back: all are kept, and rows that are equal are
//! one entry, since nobody can tell which of them is taken back. Each rank of a group is a result of its own, which
//! changes: its key is the values of the group and the rank. All rows of a unit are dealt with before a change of
//! their group is given out.

use crate::cell::{OrderedWriter, Writer};
use crate::flow::{Down, Flow, Result, reject};
use crate::operator::join::row;
use crate::operator::prefix;
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use flowstone_processor::ProcessError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a count.
const COUNT_BYTES: usize = 8;
/// Most bytes of the wanted rows of one group.
const WANTED_BYTES_MAX: usize = 8 << 20;
/// Changes of so many bytes, or so many rows, are given out at once.
const CHANGES_BYTES: usize = 4 << 20;
const CHANGES_MAX: usize = 8192;

/// A ranking whose ranks change.
#[derive(Clone)]
pub(crate) struct Top {
    /// What rows are ranked by.
    pub(crate) groups: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    /// How many rows of each group are wanted.
    pub(crate) first: usize,
    /// Rows can be taken back.
    pub(crate) updating: bool,
    /// The columns of the input.
    pub(crate) input: SchemaRef,
    /// Those and the rank.
    pub(crate) schema: SchemaRef,
    /// Rows that are taken back by those that follow at once.
    pub(crate) gone: Option<Rows>,
}

/// Rows of one group: what they are ordered by and their tie, and what is stored of them.
type Ordered = BTreeMap<Vec<u8>, Vec<u8>>;

/// The rows of a group that are wanted, in order, as they are stored.
type Wanted = Vec<Vec<u8>>;

/// A row at its place.
struct Placed {
    /// What it is ordered by.
    order: Vec<u8>,
    row: Vec<u8>,
}

/// What a unit does to a group.
struct Touched {
    /// `number | values of the group`.
    key: Vec<u8>,
    gone: Vec<Placed>,
    fresh: Vec<Placed>,
    /// Event time of the first row, the watermark before it, and the record that it comes from.
    mark: (i64, i64, u32),
}

/// Ranks that are other rows than before.
#[derive(Default)]
struct Ranks {
    ranks: Vec<u64>,
    rows: Vec<Vec<u8>>,
    /// The group of each, by its place among those that were touched.
    groups: Vec<usize>,
    bytes: usize,
}

/// What is to be given out: ranks as they were, and as they are.
#[derive(Default)]
struct Changes {
    before: Ranks,
    after: Ranks,
}

impl Changes {
    fn is_much(&self) -> bool {
        let rows = self.before.rows.len() + self.after.rows.len();
        rows >= CHANGES_MAX || self.before.bytes + self.after.bytes >= CHANGES_BYTES
    }
}

impl Ranks {
    fn push(&mut self, group: usize, rank: usize, row: &[u8]) {
        self.ranks.push(rank as u64 + 1);
        self.bytes += row.len();
        self.rows.push(row.to_vec());
        self.groups.push(group);
    }
}

impl Top {
    pub(super) fn push(
        &mut self,
        number: usize,
        rows: Rows,
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        if rows.change == Change::Before {
            self.gone = Some(rows);
            return Ok(());
        }
        let gone = self.gone.take();
        let touched = self.touched(number, gone, rows)?;
        let mut changes = Changes::default();
        for (at, group) in touched.iter().enumerate() {
            let (was, is) = match self.updating {
                true => self.replace(group, flow)?,
                false => self.add(group, flow)?,
            };
            for rank in 0..was.len().max(is.len()) {
                let (old, new) = (was.get(rank), is.get(rank));
                if old == new {
                    continue;
                }
                if let Some(old) = old {
                    changes.before.push(at, rank, old);
                }
                if let Some(new) = new {
                    changes.after.push(at, rank, new);
                }
                if changes.is_much() {
                    let much = std::mem::take(&mut changes);
                    self.give_out(&much, &touched, flow, down)?;
                }
            }
        }
        self.give_out(&changes, &touched, flow, down)
    }

    fn give_out(
        &self,
        changes: &Changes,
        touched: &[Touched],
        flow: &mut Flow<'_, '_>,
        down: &mut Down<'_>,
    ) -> Result<()> {
        let (before, after) = (&changes.before, &changes.after);
        if before.rows.is_empty() && after.rows.is_empty() {
            return Ok(());
        }
        down.push(self.rows(before, touched, Change::Before)?, flow)?;
        down.push(self.rows(after, touched, Change::After)?, flow)
    }

    /// The groups of all rows, in the order in which they came.
    fn touched(&self, number: usize, gone: Option<Rows>, fresh: Rows) -> Result<Vec<Touched>> {
        let mut all: Vec<Touched> = Vec::new();
        let mut known: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let both = [(fresh, false)].into_iter().chain(gone.map(|g| (g, true)));
        for (rows, is_gone) in both {
            let marks = rows.marks.clone();
            for (at, (key, placed)) in self.placed(number, &rows)?.into_iter().enumerate() {
                let group = *known.entry(key).or_insert_with_key(|key| {
                    let cause = marks.causes.get(at).copied().unwrap_or(NO_RECORD);
                    all.push(Touched {
                        key: key.clone(),
                        gone: Vec::new(),
                        fresh: Vec::new(),
                        mark: (marks.times_ms[at], marks.watermarks_ms[at], cause),
                    });
                    all.len() - 1
                });
                match is_gone {
                    true => all[group].gone.push(placed),
                    false => all[group].fresh.push(placed),
                }
            }
        }
        Ok(all)
    }

    /// Rows with the keys of their groups.
    fn placed(&self, number: usize, rows: &Rows) -> Result<Vec<(Vec<u8>, Placed)>> {
        let value = |e: &Arc<dyn PhysicalExpr>| {
            let value = e.evaluate(&rows.batch)?;
            value.into_array(rows.len())
        };
        let (mut groups, mut order) = (Vec::new(), Vec::new());
        for expr in &self.groups {
            groups.push(Writer::new(&value(expr).map_err(reject)?));
        }
        for (expr, options) in &self.order {
            order.push(OrderedWriter::new(&value(expr).map_err(reject)?, *options));
        }
        let columns: Vec<Writer> = rows.batch.columns().iter().map(Writer::new).collect();
        let place = |at: usize| {
            let (mut key, mut placed) = (vec![prefix(number)], Vec::new());
            groups.iter().for_each(|w| w.write(at, &mut key));
            order.iter().for_each(|w| w.write(at, &mut placed));
            let mut row = Vec::new();
            columns.iter().for_each(|w| w.write(at, &mut row));
            (key, Placed { order: placed, row })
        };
        Ok((0..rows.len()).map(place).collect())
    }

    /// What is stored of a group, at most so many rows.
    fn stored(group: &Touched, most: usize, flow: &Flow<'_, '_>) -> Ordered {
        let stored = flow.ctx.scan(&group.key).take(most);
        let order = |key: &[u8]| key[group.key.len()..].to_vec();
        stored
            .map(|(key, row)| (order(key), row.to_vec()))
            .collect()
    }

    /// Adds rows to a group that keeps only those that are wanted. Returns these as they were and as they are.
    fn add(&self, group: &Touched, flow: &mut Flow<'_, '_>) -> Result<(Wanted, Wanted)> {
        let was = Self::stored(group, self.first, flow);
        let mut count = 0;
        for order in was.keys() {
            let tie = order.last_chunk::<COUNT_BYTES>().ok_or_else(damaged)?;
            count = count.max(u64::from_be_bytes(*tie) + 1);
        }
        let mut is = was.clone();
        for placed in &group.fresh {
            let order = [&placed.order[..], &count.to_be_bytes()].concat();
            count += 1;
            is.insert(order, placed.row.clone());
            if is.len() > self.first {
                is.pop_last();
            }
        }
        for order in was.keys().filter(|order| !is.contains_key(*order)) {
            flow.ctx.delete(&[&group.key[..], order].concat());
        }
        for (order, row) in is.iter().filter(|(order, _)| !was.contains_key(*order)) {
            flow.ctx.put(&[&group.key[..], order].concat(), row);
        }
        let rows = |all: Ordered| all.into_values().collect::<Wanted>();
        let is = rows(is);
        check_size(&is)?;
        Ok((rows(was), is))
    }

    /// Takes rows back and adds others. Returns those that are wanted as they were and as they are.
    fn replace(&self, group: &Touched, flow: &mut Flow<'_, '_>) -> Result<(Wanted, Wanted)> {
        let was = self.first(group, flow)?;
        let fresh = group.fresh.iter().map(|placed| (placed, true));
        for (placed, is_fresh) in fresh.chain(group.gone.iter().map(|placed| (placed, false))) {
            let place = [&group.key[..], &placed.order, &placed.row].concat();
            let count = match flow.ctx.get(&place) {
                Some(stored) => count_of(stored)?,
                None => 0,
            };
            let count = match is_fresh {
                true => count + 1,
                false => count.checked_sub(1).ok_or_else(damaged)?,
            };
            if count == 0 {
                flow.ctx.delete(&place);
                continue;
            }
            let length = (placed.order.len() as u32).to_le_bytes();
            let value = [&length[..], &count.to_le_bytes()].concat();
            flow.ctx.put(&place, &value);
        }
        let is = self.first(group, flow)?;
        check_size(&is)?;
        Ok((was, is))
    }

    /// The wanted rows of a group that keeps all.
    fn first(&self, group: &Touched, flow: &Flow<'_, '_>) -> Result<Wanted> {
        let mut first = Wanted::new();
        for (place, stored) in flow.ctx.scan(&group.key) {
            let (length, _) = stored.split_first_chunk().ok_or_else(damaged)?;
            let from = group.key.len() + u32::from_le_bytes(*length) as usize;
            let row = place.get(from..).ok_or_else(damaged)?;
            let left = self.first - first.len();
            let count = usize::try_from(count_of(stored)?).unwrap_or(usize::MAX);
            first.extend(std::iter::repeat_n(row.to_vec(), count.min(left)));
            if first.len() == self.first {
                break;
            }
        }
        Ok(first)
    }

    /// Stored rows with their ranks.
    fn rows(&self, ranks: &Ranks, touched: &[Touched], change: Change) -> Result<Rows> {
        let stored: Vec<&[u8]> = ranks.rows.iter().map(|r| &r[..]).collect();
        let read = row::read(&self.input, &stored).ok_or_else(damaged)?;
        let read = read.map_err(reject)?;
        let rank: ArrayRef = Arc::new(UInt64Array::from(ranks.ranks.clone()));
        let mut keys = Vec::new();
        for expr in &self.groups {
            let value = expr
                .evaluate(&read)
                .and_then(|v| v.into_array(stored.len()));
            keys.push(value.map_err(reject)?);
        }
        keys.push(rank.clone());
        let mut columns = read.columns().to_vec();
        columns.push(rank);
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(reject)?;
        let marks = ranks.groups.iter().map(|group| touched[*group].mark);
        let numbers = ranks.groups.iter().zip(&ranks.ranks);
        let marks = Marks {
            times_ms: marks.clone().map(|m| m.0).collect(),
            watermarks_ms: marks.clone().map(|m| m.1).collect(),
            causes: marks.map(|m| m.2).collect(),
            groups: numbers
                .map(|(group, rank)| (group * self.first) as u32 + *rank as u32 - 1)
                .collect(),
            keys: Some(crate::format::encode::keys(&keys, stored.len())),
        };
        Ok(Rows {
            batch,
            marks: Arc::new(marks),
            change,
            report_late: true,
        })
    }
}

/// How many equal rows are stored.
fn count_of(stored: &[u8]) -> Result<u64> {
    let count = stored.last_chunk().ok_or_else(damaged)?;
    Ok(u64::from_le_bytes(*count))
}

/// Ranks are compared as a whole: those of one group must not be too much.
fn check_size(wanted: &Wanted) -> Result<()> {
    let bytes: usize = wanted.iter().map(Vec::len).sum();
    match bytes > WANTED_BYTES_MAX {
        true => Err(reject(format!(
            "the first rows of a group would take {bytes} bytes, over {WANTED_BYTES_MAX}: rank fewer or smaller ones"
        ))),
        false => Ok(()),
    }
}

fn damaged() -> ProcessError {
    reject("the stored rows of a ranking are cut off or of another plan")
}
