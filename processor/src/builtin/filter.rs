//! Filter: passes on the records that a condition holds for.

use super::scalar::{Scalar, field};
use crate::context::Context;
use crate::pipeline::invalid;
use crate::processor::{ProcessError, Processor};
use crate::record::Record;
use flowstone_wire::Failure;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;

/// A stage that passes on the records for which `keep` is true.
pub fn filter(
    keep: impl Fn(&Record<'_>) -> bool + Send + Sync + 'static,
) -> impl Fn() -> Box<dyn Processor> + Send + Sync + 'static {
    let keep = Arc::new(keep);
    move || {
        let keep = Arc::clone(&keep);
        Box::new(Filter(move |record: &Record<'_>| Ok(keep(record))))
    }
}

struct Filter<F>(F);

impl<F> Processor for Filter<F>
where
    F: Fn(&Record<'_>) -> Result<bool, ProcessError> + Send,
{
    #[inline]
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        if (self.0)(record)? {
            ctx.forward(record);
        }
        Ok(())
    }
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterOp {
    /// Equal.
    Eq,
    /// There, and not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// There and not null; with the value `false`: not there, or null.
    Exists,
}

impl FilterOp {
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Eq => order == Some(Ordering::Equal),
            Self::Ne => order != Some(Ordering::Equal),
            Self::Lt => order == Some(Ordering::Less),
            Self::Le => order.is_some_and(Ordering::is_le),
            Self::Gt => order == Some(Ordering::Greater),
            Self::Ge => order.is_some_and(Ordering::is_ge),
            Self::Exists => false,
        }
    }
}

/// A condition on a field of a JSON object.
///
/// Numbers are compared with numbers, texts with texts, truth values with truth values. A field of
/// another kind than the value is unequal to it and neither less nor greater. A field that is missing
/// or null holds no condition but `exists` with `false`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldFilter {
    /// Name of the field, at the top level of the object.
    pub field: String,
    /// How it is compared.
    pub op: FilterOp,
    /// With what: a number, a text, a truth value; for `exists` a truth value or nothing.
    pub value: Option<serde_json::Value>,
}

/// A stage that passes on the records for which the condition holds.
///
/// # Errors
/// [`Failure`] if the value does not go with the operation.
pub fn filter_field(
    condition: FieldFilter,
) -> Result<impl Fn() -> Box<dyn Processor> + Send + Sync + 'static, Failure> {
    let FieldFilter { field, op, value } = condition;
    let operand = operand(&field, op, value)?;
    let condition = Arc::new((field, operand));
    Ok(move || -> Box<dyn Processor> {
        let condition = Arc::clone(&condition);
        Box::new(Filter(move |record: &Record<'_>| {
            let (name, operand) = &*condition;
            holds(&field_of(record, name)?, op, operand)
        }))
    })
}

fn field_of<'a>(record: &Record<'a>, name: &str) -> Result<Scalar<'a>, ProcessError> {
    field(record.value, name)
}

fn holds(found: &Scalar<'_>, op: FilterOp, operand: &Scalar<'_>) -> Result<bool, ProcessError> {
    let is_there = *found != Scalar::Missing;
    Ok(match op {
        FilterOp::Exists => Scalar::Bool(is_there) == *operand,
        _ => is_there && op.holds(found.compare(operand)),
    })
}

fn operand(
    field: &str,
    op: FilterOp,
    value: Option<serde_json::Value>,
) -> Result<Scalar<'static>, Failure> {
    use serde_json::Value;
    let found = match &value {
        Some(Value::Bool(b)) => Some(Scalar::Bool(*b)),
        Some(Value::String(text)) => Some(Scalar::Text(text.clone().into())),
        Some(Value::Number(n)) => n
            .as_i128()
            .map(Scalar::Int)
            .or_else(|| n.as_f64().map(Scalar::Float)),
        Some(_) => None,
        None if op == FilterOp::Exists => Some(Scalar::Bool(true)),
        None => None,
    };
    let wanted = match (op, found) {
        (FilterOp::Eq | FilterOp::Ne, Some(scalar)) => return Ok(scalar),
        (FilterOp::Exists, Some(Scalar::Bool(b))) => return Ok(Scalar::Bool(b)),
        (FilterOp::Exists, _) => "true, false or nothing",
        (FilterOp::Eq | FilterOp::Ne, None) => "a number, a text, true or false",
        (_, Some(scalar @ (Scalar::Int(_) | Scalar::Float(_) | Scalar::Text(_)))) => {
            return Ok(scalar);
        }
        _ => "a number or a text",
    };
    let value = value.map_or_else(|| "nothing".into(), |value| value.to_string());
    Err(invalid(format!(
        "filter on field '{}' compares with {}: give {wanted}",
        field.escape_debug(),
        value.chars().take(40).collect::<String>()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn passes(op: FilterOp, value: Option<serde_json::Value>, json: &str) -> bool {
        let operand = operand("n", op, value).unwrap();
        let found = field(Some(json.as_bytes()), "n").unwrap();
        holds(&found, op, &operand).unwrap()
    }

    #[test]
    fn every_operation() {
        use FilterOp::{Eq, Exists, Ge, Gt, Le, Lt, Ne};
        for (op, value, expected) in [
            (Eq, json!(2), [false, true, false]),
            (Ne, json!(2), [true, false, true]),
            (Lt, json!(2), [true, false, false]),
            (Le, json!(2.0), [true, true, false]),
            (Gt, json!(2), [false, false, true]),
            (Ge, json!(2), [false, true, true]),
            (Exists, json!(true), [true, true, true]),
            (Exists, json!(false), [false, false, false]),
        ] {
            for (n, expected) in [1, 2, 3].into_iter().zip(expected) {
                let json = format!("{{\"n\":{n}}}");
                assert_eq!(
                    passes(op, Some(value.clone()), &json),
                    expected,
                    "{op:?} {n}"
                );
            }
        }
        assert!(passes(Lt, Some(json!("b")), r#"{"n":"a"}"#));
        assert!(passes(Eq, Some(json!(true)), r#"{"n":true}"#));
    }

    #[test]
    fn missing_null_and_other_kinds() {
        for json in ["{}", r#"{"n":null}"#] {
            assert!(!passes(FilterOp::Eq, Some(json!(1)), json));
            assert!(!passes(FilterOp::Ne, Some(json!(1)), json));
            assert!(!passes(FilterOp::Exists, None, json));
            assert!(passes(FilterOp::Exists, Some(json!(false)), json));
        }
        assert!(passes(FilterOp::Ne, Some(json!(1)), r#"{"n":"1"}"#));
        assert!(!passes(FilterOp::Ge, Some(json!(1)), r#"{"n":"1"}"#));
        assert!(passes(FilterOp::Exists, None, r#"{"n":[]}"#));
    }

    #[test]
    fn a_value_that_does_not_go_with_the_operation_is_refused() {
        for (op, value) in [
            (FilterOp::Eq, None),
            (FilterOp::Eq, Some(json!(null))),
            (FilterOp::Ne, Some(json!([]))),
            (FilterOp::Lt, Some(json!(true))),
            (FilterOp::Exists, Some(json!(1))),
        ] {
            let condition = FieldFilter {
                field: "n".into(),
                op,
                value,
            };
            let failure = filter_field(condition).err().unwrap();
            assert!(failure.message.contains("field 'n'"), "{failure}");
        }
    }
}
