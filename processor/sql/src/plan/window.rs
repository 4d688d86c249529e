//! The logical node of a window function: its input, and the bounds of a window for each row.

use crate::stream::TIMESTAMP;
use datafusion::arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Name of the column with the start of the window.
pub(crate) const WINDOW_START: &str = "window_start";
/// Name of the column with the end of the window; it is not part of the window.
pub(crate) const WINDOW_END: &str = "window_end";

/// Which windows a row is in. Windows begin at multiples of their step since 1970; all in
/// milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum WindowKind {
    /// One after the other.
    Tumble { size_ms: i64 },
    /// A new one every `slide_ms`.
    Hop { slide_ms: i64, size_ms: i64 },
    /// From each multiple of `size_ms`: one of a step, one of two steps, up to `size_ms`.
    Cumulate { step_ms: i64, size_ms: i64 },
    /// As long as rows of a group are less than `gap_ms` apart.
    Session { gap_ms: i64 },
    /// Every `rows` rows of a group, a new one every `slide` rows.
    Count { rows: u64, slide: u64 },
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tumble { size_ms } => write!(f, "tumbling, {size_ms} ms"),
            Self::Hop { slide_ms, size_ms } => {
                write!(f, "hopping, {size_ms} ms every {slide_ms} ms")
            }
            Self::Cumulate { step_ms, size_ms } => {
                write!(f, "cumulative, {size_ms} ms in steps of {step_ms} ms")
            }
            Self::Session { gap_ms } => write!(f, "session, gap {gap_ms} ms"),
            Self::Count { rows, slide } => write!(f, "{rows} rows every {slide} rows"),
        }
    }
}

/// Rows with the bounds of a window each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowNode {
    pub(crate) input: LogicalPlan,
    pub(crate) kind: WindowKind,
    /// The column with the event time; count windows have none.
    pub(crate) time: Option<Column>,
    schema: DFSchemaRef,
}

impl WindowNode {
    pub(crate) fn new(input: LogicalPlan, kind: WindowKind, time: Option<Column>) -> Result<Self> {
        let bound = |name: &str| -> (Option<TableReference>, Arc<Field>) {
            (None, Arc::new(Field::new(name, TIMESTAMP, false)))
        };
        for name in [WINDOW_START, WINDOW_END] {
            if input.schema().fields().iter().any(|f| f.name() == name) {
                return plan_err!(
                    "there is a column '{name}' already: rename it in a query of its own"
                );
            }
        }
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> = input
            .schema()
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), field.clone()))
            .collect();
        fields.push(bound(WINDOW_START));
        fields.push(bound(WINDOW_END));
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        Ok(Self {
            input,
            kind,
            time,
            schema: Arc::new(schema),
        })
    }
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, self.kind, &self.time).partial_cmp(&(&other.input, other.kind, &other.time))
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.time.iter().cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {}", self.kind)?;
        self.time
            .iter()
            .try_for_each(|time| write!(f, " of {time}"))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let time = match exprs.into_iter().next() {
            Some(Expr::Column(time)) => Some(time),
            _ => None,
        };
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) if time.is_some() == self.time.is_some() => {
                Self::new(input, self.kind, time)
            }
            _ => plan_err!("a window has one input and one time column"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let inputs = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns
            .iter()
            .copied()
            .filter(|c| *c < inputs)
            .collect();
        if let Some(time) = &self.time {
            needed.push(self.input.schema().index_of_column(time).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
