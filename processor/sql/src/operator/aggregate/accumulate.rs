//! The aggregate functions of a grouping at work: on the rows of one unit, and on what is stored.
//!
//! ```text
//! stored states of the touched groups --merge--> accumulators <--update-- rows of the unit
//!                                                     |
//!                                                     +--> states, to be stored again
//!                                                     \--> results
//! ```
//!
//! Accumulators live for one unit only. So the store is the one place where a group is, and undoing
//! or replaying it is all there is to undo and replay.

use crate::cell::{Reader, Writer};
use crate::flow::{Result, reject};
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use std::sync::Arc;

/// One aggregate function of a grouping.
pub(crate) struct Call {
    pub(crate) function: Arc<AggregateFunctionExpr>,
    /// What it is computed from.
    pub(crate) arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// `FILTER (WHERE ...)`.
    pub(crate) filter: Option<Arc<dyn PhysicalExpr>>,
    /// Types of what is stored for each group.
    pub(crate) state: Vec<DataType>,
}

/// All aggregate functions of a grouping.
#[derive(Clone)]
pub(crate) struct Aggregates(pub(crate) Arc<[Call]>);

impl Aggregates {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Accumulators that have seen nothing.
    pub(crate) fn start(&self) -> Result<Accumulators> {
        let parts = self.0.iter().map(accumulator).collect::<Result<_>>()?;
        Ok(Accumulators {
            calls: self.clone(),
            parts,
        })
    }
}

fn accumulator(call: &Call) -> Result<Box<dyn GroupsAccumulator>> {
    if call.function.groups_accumulator_supported() {
        return call.function.create_groups_accumulator().map_err(reject);
    }
    let function = call.function.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
        function.create_accumulator()
    })))
}

/// The accumulators of some groups, numbered from 0.
pub(crate) struct Accumulators {
    calls: Aggregates,
    parts: Vec<Box<dyn GroupsAccumulator>>,
}

impl Accumulators {
    /// Adds stored states to their groups, each of the first `groups` at least one: accumulators
    /// take a group that is counted for one that has seen something.
    pub(crate) fn merge(&mut self, stored: &[(usize, &[u8])], groups: usize) -> Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        let damaged = || reject("the stored state of a group is cut off or of another plan");
        let types = || self.calls.0.iter().flat_map(|c| &c.state);
        let mut readers: Vec<Reader> = types().map(Reader::new).collect();
        for (_, bytes) in stored {
            let mut rest = *bytes;
            for reader in &mut readers {
                reader.read(&mut rest).ok_or_else(damaged)?;
            }
        }
        let numbers: Vec<usize> = stored.iter().map(|(group, _)| *group).collect();
        let mut readers = readers.into_iter();
        for (call, part) in self.calls.0.iter().zip(&mut self.parts) {
            let states = readers.by_ref().take(call.state.len());
            let states: Vec<ArrayRef> = states
                .map(|r| r.finish().map_err(reject))
                .collect::<Result<_>>()?;
            part.merge_batch(&states, &numbers, groups)
                .map_err(reject)?;
        }
        Ok(())
    }

    /// Adds rows to their groups.
    pub(crate) fn update(
        &mut self,
        batch: &RecordBatch,
        numbers: &[usize],
        groups: usize,
    ) -> Result<()> {
        let evaluate = |e: &Arc<dyn PhysicalExpr>| {
            let value = e
                .evaluate(batch)
                .and_then(|v| v.into_array(batch.num_rows()));
            value.map_err(reject)
        };
        for (call, part) in self.calls.0.iter().zip(&mut self.parts) {
            let arguments = call
                .arguments
                .iter()
                .map(evaluate)
                .collect::<Result<Vec<_>>>()?;
            let filter = call.filter.as_ref().map(evaluate).transpose()?;
            let filter: Option<&BooleanArray> = filter.as_ref().map(|f| f.as_boolean());
            part.update_batch(&arguments, numbers, filter, groups)
                .map_err(reject)?;
        }
        Ok(())
    }

    /// The states of all groups, and empty accumulators.
    pub(crate) fn states(&mut self) -> Result<States> {
        let mut writers = Vec::new();
        for part in &mut self.parts {
            let states = part.state(EmitTo::All).map_err(reject)?;
            writers.extend(states.iter().map(Writer::new));
        }
        Ok(States { writers })
    }

    /// The results of all groups, a column for each function.
    pub(crate) fn results(&mut self) -> Result<Vec<ArrayRef>> {
        let result = |p: &mut Box<dyn GroupsAccumulator>| p.evaluate(EmitTo::All).map_err(reject);
        self.parts.iter_mut().map(result).collect()
    }
}

/// States of groups, to be written one by one.
pub(crate) struct States {
    writers: Vec<Writer>,
}

impl States {
    /// Appends the state of a group.
    pub(crate) fn write(&self, group: usize, out: &mut Vec<u8>) {
        self.writers.iter().for_each(|w| w.write(group, out));
    }
}
