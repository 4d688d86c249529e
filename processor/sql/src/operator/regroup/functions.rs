//! Aggregate functions that can take rows back.
//!
//! Those that count and add do it themselves. min and max do not know what is left, so how often each value is there
//! is kept: the first one in their order is the result.

use super::damaged;
use crate::cell::{OrderedWriter, Reader, Writer, is_orderable, is_storable};
use crate::flow::{Flow, Result, reject};
use crate::operator::{Aggregates, Call};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_empty_array,
};
use datafusion::arrow::compute::{SortOptions, filter, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result as Planned, ScalarValue, plan_err};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// How a function takes rows back.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// By itself; types of what is stored.
    Itself(Vec<DataType>),
    /// It is the first of the values of this type that are there, in this order.
    First(DataType, SortOptions),
}

impl Rule {
    /// How a function does.
    pub(crate) fn of(call: &Call) -> Planned<Self> {
        let (name, argument) = (call.function.fun().name(), call.function.field());
        if call.arguments.len() > call.function.expressions().len() {
            return plan_err!(
                "ORDER BY inside of {name}() over results that change is not supported"
            );
        }
        match name {
            "min" | "max" if is_orderable(argument.data_type()) => {
                let options = SortOptions {
                    descending: name == "max",
                    nulls_first: false,
                };
                Ok(Self::First(argument.data_type().clone(), options))
            }
            // What is left of a variance when a large value is taken back has no digit that is right.
            "count" | "sum" | "avg" if !call.function.is_distinct() => {
                let states = call.function.create_sliding_accumulator()?.state()?;
                let types: Vec<DataType> = states.iter().map(ScalarValue::data_type).collect();
                match types.iter().find(|t| !is_storable(t)) {
                    Some(other) => {
                        plan_err!("{name} keeps values of type {other}, which cannot be stored")
                    }
                    None => Ok(Self::Itself(types)),
                }
            }
            _ => plan_err!(
                "{} over results that change: count, sum, avg, min and max can take a row back, without DISTINCT",
                call.function.name()
            ),
        }
    }
}

/// All functions of a grouping.
#[derive(Clone)]
pub(crate) struct Functions {
    pub(crate) calls: Aggregates,
    pub(crate) rules: Arc<[Rule]>,
}

/// What the functions are computed from, for all rows of a unit.
pub(super) struct Inputs(Vec<Input>);

struct Input {
    arguments: Vec<ArrayRef>,
    /// Rows that count; without it all do.
    filter: Option<BooleanArray>,
}

impl Input {
    fn counts(&self, row: usize) -> bool {
        let is_true = |f: &BooleanArray| f.is_valid(row) && f.value(row);
        self.filter.as_ref().is_none_or(is_true)
    }

    /// The arguments of some rows, of those that count.
    fn of(&self, rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
        let all = self.arguments.iter().map(|a| take(a, rows, None));
        let all = all
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(reject)?;
        if self.filter.is_none() {
            return Ok(all);
        }
        let counts = rows.values().iter().map(|row| self.counts(*row as usize));
        let counts = BooleanArray::from(counts.collect::<Vec<_>>());
        let all = all.iter().map(|a| filter(a, &counts).map_err(reject));
        all.collect()
    }
}

impl Functions {
    fn all(&self) -> impl Iterator<Item = (&Call, &Rule)> {
        self.calls.0.iter().zip(self.rules.iter())
    }

    /// Evaluates what the functions are computed from.
    pub(super) fn inputs(&self, batch: &RecordBatch) -> Result<Inputs> {
        let evaluate = |e: &Arc<dyn PhysicalExpr>| {
            let value = e.evaluate(batch);
            value
                .and_then(|v| v.into_array(batch.num_rows()))
                .map_err(reject)
        };
        let mut inputs = Vec::new();
        for call in self.calls.0.iter() {
            let arguments = call.arguments.iter().map(evaluate).collect::<Result<_>>()?;
            let filter = call.filter.as_ref().map(evaluate).transpose()?;
            inputs.push(Input {
                arguments,
                filter: filter.map(|f| f.as_boolean().clone()),
            });
        }
        Ok(Inputs(inputs))
    }

    /// The accumulators of those that take rows back themselves, with what is stored.
    fn load(&self, states: Option<&[u8]>) -> Result<Vec<Option<Box<dyn Accumulator>>>> {
        let mut rest = states;
        let mut loaded = Vec::new();
        for (call, rule) in self.all() {
            let Rule::Itself(types) = rule else {
                loaded.push(None);
                continue;
            };
            let mut accumulator = call.function.create_sliding_accumulator().map_err(reject)?;
            if let Some(rest) = &mut rest {
                let mut arrays = Vec::new();
                for data_type in types {
                    let mut reader = Reader::new(data_type);
                    reader.read(rest).ok_or_else(damaged)?;
                    arrays.push(reader.finish().map_err(reject)?);
                }
                accumulator.merge_batch(&arrays).map_err(reject)?;
            }
            loaded.push(Some(accumulator));
        }
        Ok(loaded)
    }

    /// Adds rows to what is stored and takes others back; returns what is to be stored.
    pub(super) fn change(
        &self,
        states: Option<&[u8]>,
        inputs: &Inputs,
        fresh: &UInt32Array,
        gone: &UInt32Array,
    ) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (accumulator, input) in self.load(states)?.into_iter().zip(&inputs.0) {
            let Some(mut accumulator) = accumulator else {
                continue;
            };
            // What comes first: a function may not be below nothing in between.
            if !fresh.is_empty() {
                accumulator
                    .update_batch(&input.of(fresh)?)
                    .map_err(reject)?;
            }
            if !gone.is_empty() {
                accumulator
                    .retract_batch(&input.of(gone)?)
                    .map_err(reject)?;
            }
            for value in accumulator.state().map_err(reject)? {
                Writer::new(&value.to_array().map_err(reject)?).write(0, &mut bytes);
            }
        }
        Ok(bytes)
    }

    /// Counts the values of min and max.
    pub(super) fn count(
        &self,
        key: &[u8],
        inputs: &Inputs,
        rows: impl Iterator<Item = (usize, bool)>,
        flow: &mut Flow<'_, '_>,
    ) -> Result<()> {
        let mut kept = Vec::new();
        for (at, ((_, rule), input)) in self.all().zip(&inputs.0).enumerate() {
            if let (Rule::First(_, options), [values]) = (rule, &input.arguments[..]) {
                let writers = (OrderedWriter::new(values, *options), Writer::new(values));
                kept.push((place(key, at), input, values, writers));
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        for (row, is_fresh) in rows {
            for (place, input, values, (ordered, plain)) in &kept {
                if values.is_null(row) || !input.counts(row) {
                    continue;
                }
                let mut place = place.clone();
                ordered.write(row, &mut place);
                let stored = flow.ctx.get(&place);
                let count = stored
                    .map(|s| s.first_chunk().ok_or_else(damaged))
                    .transpose()?;
                let count = count.map_or(0, |c| u64::from_le_bytes(*c));
                let count = match is_fresh {
                    true => count + 1,
                    false => count.checked_sub(1).ok_or_else(damaged)?,
                };
                if count == 0 {
                    flow.ctx.delete(&place);
                    continue;
                }
                let mut value = count.to_le_bytes().to_vec();
                plain.write(row, &mut value);
                flow.ctx.put(&place, &value);
            }
        }
        Ok(())
    }

    /// The results of a group from what is stored of it.
    pub(super) fn results(
        &self,
        states: &[u8],
        key: &[u8],
        flow: &Flow<'_, '_>,
    ) -> Result<Vec<ScalarValue>> {
        let mut results = Vec::new();
        for (at, (accumulator, (_, rule))) in self
            .load(Some(states))?
            .into_iter()
            .zip(self.all())
            .enumerate()
        {
            results.push(match (accumulator, rule) {
                (Some(mut accumulator), _) => accumulator.evaluate().map_err(reject)?,
                (None, Rule::First(data_type, _)) => first(&place(key, at), data_type, flow)?,
                (None, Rule::Itself(_)) => ScalarValue::Null,
            });
        }
        Ok(results)
    }
}

/// Where the values of a function are.
fn place(key: &[u8], function: usize) -> Vec<u8> {
    [key, &[1 + function as u8]].concat()
}

/// The first value that is there.
fn first(place: &[u8], data_type: &DataType, flow: &Flow<'_, '_>) -> Result<ScalarValue> {
    let Some((_, stored)) = flow.ctx.scan(place).next() else {
        return ScalarValue::try_from(data_type).map_err(reject);
    };
    let (_, mut rest) = stored.split_first_chunk::<8>().ok_or_else(damaged)?;
    let mut reader = Reader::new(data_type);
    reader.read(&mut rest).ok_or_else(damaged)?;
    let value = reader.finish().map_err(reject)?;
    ScalarValue::try_from_array(&value, 0).map_err(reject)
}

/// A column of results.
pub(super) fn array(
    values: impl Iterator<Item = ScalarValue>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let mut values = values.peekable();
    match values.peek() {
        Some(_) => ScalarValue::iter_to_array(values).map_err(reject),
        None => Ok(new_empty_array(data_type)),
    }
}
