//! The logical node of `CROSS JOIN UNNEST(list)`: the rows of its input with an element each.

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, plan_err};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A row for each element of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UnnestNode {
    pub(crate) input: LogicalPlan,
    pub(crate) list: Expr,
    /// Rows without an element are kept.
    pub(crate) outer: bool,
    /// Names of the relation and of the column with the element.
    pub(super) names: (String, String),
    schema: DFSchemaRef,
}

impl UnnestNode {
    pub(crate) fn new(
        input: LogicalPlan,
        list: Expr,
        outer: bool,
        names: (String, String),
    ) -> Result<Self> {
        let element = match list.get_type(input.schema())? {
            DataType::List(field) => field.data_type().clone(),
            _ => return plan_err!("UNNEST takes a list, which {list} is not"),
        };
        let fields = input.schema().iter();
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> = fields
            .map(|(qualifier, field)| (qualifier.cloned(), field.clone()))
            .collect();
        fields.push((
            Some(TableReference::bare(names.0.clone())),
            Arc::new(Field::new(&names.1, element, true)),
        ));
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        Ok(Self {
            input,
            list,
            outer,
            names,
            schema: Arc::new(schema),
        })
    }
}

impl PartialOrd for UnnestNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let of = |n: &Self| (n.outer, n.names.clone());
        (&self.input, &self.list, of(self)).partial_cmp(&(&other.input, &other.list, of(other)))
    }
}

impl UserDefinedLogicalNodeCore for UnnestNode {
    fn name(&self) -> &str {
        "UnnestList"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.list.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnnestList: {}", self.list)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (
            <[Expr; 1]>::try_from(exprs),
            <[LogicalPlan; 1]>::try_from(inputs),
        ) {
            (Ok([list]), Ok([input])) => Self::new(input, list, self.outer, self.names.clone()),
            _ => plan_err!("UNNEST has one input and one list"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let mut needed: Vec<usize> = output_columns
            .iter()
            .copied()
            .filter(|c| *c < schema.fields().len())
            .collect();
        for column in self.list.column_refs() {
            needed.push(schema.index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
