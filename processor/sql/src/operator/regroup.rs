//! GROUP BY over results that change: rows are added to their groups and taken back from them.
//!
//! ```text
//! state: number | values of the group                            ->  how many rows it has | states of its functions
//!        number | values of the group | 1 + function | value     ->  how often min or max has seen the value | value
//! ```
//!
//! Gives out every change. All rows of a unit are dealt with before; a group whose last row is taken back is no result
//! any more.

mod functions;

use crate::flow::{Down, Flow, Result, reject};
use crate::operator::aggregate::group::Groups;
use crate::rows::{Change, Marks, NO_RECORD, Rows};
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use functions::Inputs;
pub(crate) use functions::{Functions, Rule};
use std::sync::Arc;

/// A grouping of rows that can be taken back.
#[derive(Clone)]
pub(crate) struct Regroup {
    /// What rows are grouped by.
    pub(crate) columns: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) functions: Functions,
    /// Those, then the results.
    pub(crate) schema: SchemaRef,
    /// Rows that are taken back by those that follow at once.
    pub(crate) gone: Option<Rows>,
}

/// The rows of a unit that are in one group.
#[derive(Default)]
struct Members {
    fresh: Vec<u32>,
    gone: Vec<u32>,
}

impl Members {
    /// Each row, and whether it is added.
    fn all(&self) -> impl Iterator<Item = (usize, bool)> {
        let fresh = self.fresh.iter().map(|row| (*row as usize, true));
        fresh.chain(self.gone.iter().map(|row| (*row as usize, false)))
    }
}

/// The results of all functions of a group.
type Values = Vec<ScalarValue>;

/// Groups with their results, to be given out.
#[derive(Default)]
struct Results {
    groups: Vec<u32>,
    values: Vec<Values>,
}

impl Regroup {
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
        let fresh = rows.len();
        let rows = match self.gone.take() {
            Some(gone) => rows.followed_by(&gone).map_err(reject)?,
            None => rows,
        };
        let values = self.values(&rows)?;
        let groups = Groups::find(number, &rows, &values, None);
        let (before, after) = self.change(&groups, &rows, fresh, flow)?;
        if before.groups.is_empty() && after.groups.is_empty() {
            return Ok(());
        }
        let mut give = |results: Results, change: Change, flow: &mut Flow<'_, '_>| {
            let rows = self.rows((&rows, &values, &groups), results, change)?;
            down.push(rows, flow)
        };
        give(before, Change::Before, flow)?;
        give(after, Change::After, flow)
    }

    fn values(&self, rows: &Rows) -> Result<Vec<ArrayRef>> {
        let mut values = Vec::new();
        for column in &self.columns {
            let value = column.evaluate(&rows.batch);
            let value = value.and_then(|v| v.into_array(rows.len()));
            values.push(value.map_err(reject)?);
        }
        Ok(values)
    }

    /// Adds the first `fresh` rows to their groups and takes the others back. Returns the results that change, as
    /// they were and as they are.
    fn change(
        &self,
        groups: &Groups,
        rows: &Rows,
        fresh: usize,
        flow: &mut Flow<'_, '_>,
    ) -> Result<(Results, Results)> {
        let inputs = self.functions.inputs(&rows.batch)?;
        let mut members: Vec<Members> = Vec::new();
        members.resize_with(groups.len(), Members::default);
        for (row, group) in groups.numbers.iter().enumerate() {
            let members = &mut members[*group];
            match row < fresh {
                true => members.fresh.push(row as u32),
                false => members.gone.push(row as u32),
            }
        }
        let (mut before, mut after) = (Results::default(), Results::default());
        for (group, members) in members.iter().enumerate() {
            let key = groups.key(group).to_vec();
            let (was, is) = self.change_group(&key, members, &inputs, flow)?;
            if was == is {
                continue;
            }
            for (results, values) in [(&mut before, was), (&mut after, is)] {
                if let Some(values) = values {
                    results.groups.push(group as u32);
                    results.values.push(values);
                }
            }
        }
        Ok((before, after))
    }

    /// The results of a group before and behind some rows; none where it has no rows.
    fn change_group(
        &self,
        key: &[u8],
        members: &Members,
        inputs: &Inputs,
        flow: &mut Flow<'_, '_>,
    ) -> Result<(Option<Values>, Option<Values>)> {
        let stored = flow.ctx.get(key).map(<[u8]>::to_vec);
        let (count, states) = match &stored {
            Some(stored) => {
                let (count, states) = stored.split_first_chunk().ok_or_else(damaged)?;
                (u64::from_le_bytes(*count), Some(states))
            }
            None => (0, None),
        };
        let was = match states {
            Some(states) => Some(self.functions.results(states, key, flow)?),
            None => None,
        };
        let fresh = UInt32Array::from(members.fresh.clone());
        let gone = UInt32Array::from(members.gone.clone());
        let changed = self.functions.change(states, inputs, &fresh, &gone)?;
        self.functions.count(key, inputs, members.all(), flow)?;
        let count = (count + members.fresh.len() as u64).checked_sub(members.gone.len() as u64);
        let count = count.ok_or_else(damaged)?;
        // Without GROUP BY there is a result of no rows, too.
        if count == 0 && !self.columns.is_empty() {
            flow.ctx.delete(key);
            return Ok((was, None));
        }
        flow.ctx
            .put(key, &[&count.to_le_bytes(), &changed[..]].concat());
        let is = self.functions.results(&changed, key, flow)?;
        Ok((was, Some(is)))
    }

    /// Results as rows.
    fn rows(
        &self,
        (rows, values, groups): (&Rows, &[ArrayRef], &Groups),
        results: Results,
        change: Change,
    ) -> Result<Rows> {
        let first = results.groups.iter().map(|g| groups.firsts[*g as usize]);
        let first = UInt32Array::from_iter_values(first);
        let pick = |a: &ArrayRef| take(a, &first, None).map_err(reject);
        let mut columns = values.iter().map(pick).collect::<Result<Vec<_>>>()?;
        let keys = crate::format::encode::keys(&columns, first.len());
        for (at, field) in self.schema.fields().iter().skip(values.len()).enumerate() {
            let of = results.values.iter().map(|v| v[at].clone());
            columns.push(functions::array(of, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(first.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        let of = |all: &[i64]| first.values().iter().map(|r| all[*r as usize]).collect();
        let cause = |row: &u32| rows.marks.causes.get(*row as usize).copied();
        let causes = first.values().iter().map(cause);
        let marks = Marks {
            times_ms: of(&rows.marks.times_ms),
            watermarks_ms: of(&rows.marks.watermarks_ms),
            causes: causes.map(|c| c.unwrap_or(NO_RECORD)).collect(),
            groups: results.groups,
            keys: Some(keys),
        };
        Ok(Rows {
            batch: batch.map_err(reject)?,
            marks: Arc::new(marks),
            change,
            report_late: true,
        })
    }
}

fn damaged() -> flowstone_processor::ProcessError {
    reject("the stored state of a group is cut off or of another plan")
}
