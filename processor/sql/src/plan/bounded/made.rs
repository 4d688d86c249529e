//! How much a function would make, before it does.

use super::size::{Texts, of_value};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

/// How the result of a function grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// It has what its arguments have.
    Sum,
    /// The first argument stands between all others.
    Between,
    /// The third argument stands wherever the second is found in the first.
    Replaced,
    /// As [`Growth::Replaced`], where the second is a pattern: what it found may be part of the third.
    Matched,
    /// A part of the first argument for each group of the pattern.
    Groups,
    /// The second argument stands between the elements of the first.
    Elements,
    /// The third argument may stand for each element of the first.
    Swapped,
    /// As many characters as the second argument says.
    Filled,
    /// The digits of the bytes of the first.
    Digits,
    /// It makes little, but compares each character of one argument with each of the other.
    Compared,
}

/// Most bytes that an element takes as text beyond those that it has.
const ELEMENT_TEXT_BYTES: u64 = 32;
/// Most bytes of a character.
const CHAR_BYTES: u64 = 4;

/// An upper bound of what is made of these arguments: bytes, or comparisons for [`Growth::Compared`].
///
/// # Errors
/// Arguments that are no arrays.
pub(super) fn made(growth: Growth, args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let size = |at: usize| args.get(at).map_or(Ok(0), |a| of_value(a, rows));
    Ok(match growth {
        Growth::Sum => sum(args, rows)?,
        Growth::Between => {
            let times = args.len().saturating_sub(2) as u64;
            sum(args, rows)?.saturating_add(size(0)?.saturating_mul(times))
        }
        Growth::Replaced => replaced(args, rows)?,
        Growth::Matched => {
            let each = |s: &str, _: &str, by: &str| {
                let (text, by) = (s.len() as u64, by.len() as u64);
                // A reference takes two characters, and all that one refers to is in the text once.
                let found = (text + 1).saturating_mul(by);
                found.saturating_add(text.saturating_mul(by / 2 + 1))
            };
            by_row(args, rows, each)?
        }
        Growth::Groups => {
            let each = |s: &str, pattern: &str, _: &str| {
                let groups = pattern.bytes().filter(|b| *b == b'(').count() as u64;
                (s.len() as u64).saturating_mul(groups + 1)
            };
            by_row(args, rows, each)?
        }
        Growth::Elements => {
            let elements = elements(args, rows);
            let by = longest(args.get(1), rows)?;
            size(0)?.saturating_add(elements.saturating_mul(by + ELEMENT_TEXT_BYTES))
        }
        Growth::Swapped => {
            // An element that all are swapped for may be the largest one.
            let by = args.get(2).map_or(Ok(0), |a| of_value(a, 1))?;
            size(0)?.saturating_add(elements(args, rows).saturating_mul(by))
        }
        Growth::Filled => {
            let characters = match args.get(1) {
                Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(n)))) => (*n).max(0) as u64,
                _ => super::FILLED_MAX as u64,
            };
            // What is longer is cut.
            characters.saturating_mul(CHAR_BYTES * rows as u64)
        }
        Growth::Digits => size(0)?.saturating_mul(2),
        Growth::Compared => {
            let each = |a: &str, b: &str, _: &str| (a.len() as u64).saturating_mul(b.len() as u64);
            by_row(args, rows, each)?
        }
    })
}

fn sum(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let add = |sum: u64, arg: &ColumnarValue| Ok(sum.saturating_add(of_value(arg, rows)?));
    args.iter().try_fold(0, add)
}

/// The sum of what `each` says of the first three texts of each row.
fn by_row(
    args: &[ColumnarValue],
    rows: usize,
    each: impl Fn(&str, &str, &str) -> u64,
) -> Result<u64> {
    let texts = args.iter().take(3).map(Texts::of);
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let text = |at: usize, row: usize| texts.get(at).map_or("", |t| t.get(row));
    let sum = (0..rows).map(|row| each(text(0, row), text(1, row), text(2, row)));
    Ok(sum.fold(0, u64::saturating_add))
}

/// Finding what is replaced takes as long as replacing it: it is done only where it matters.
fn replaced(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let at_most = |s: &str, from: &str, to: &str| {
        let times = (s.len() / from.len().max(1) + 1) as u64;
        times.saturating_mul(to.len() as u64) + s.len() as u64
    };
    let bound = by_row(args, rows, at_most)?;
    if bound <= super::growing::MADE_BYTES_MAX {
        return Ok(bound);
    }
    by_row(args, rows, |s, from, to| {
        let times = s.matches(from).count() as u64;
        times.saturating_mul(to.len() as u64) + s.len() as u64
    })
}

/// The elements of the lists of the first argument, at most.
fn elements(args: &[ColumnarValue], rows: usize) -> u64 {
    use datafusion::arrow::array::{Array, ArrayRef, AsArray};
    use datafusion::arrow::datatypes::DataType;
    fn of(array: &ArrayRef) -> u64 {
        match array.data_type() {
            DataType::List(_) => of(array.as_list::<i32>().values()),
            DataType::LargeList(_) => of(array.as_list::<i64>().values()),
            _ => array.len() as u64,
        }
    }
    match args.first() {
        Some(ColumnarValue::Array(array)) => of(array),
        Some(ColumnarValue::Scalar(scalar)) => {
            let array = scalar.to_array().map_or(0, |a| of(&a));
            array.saturating_mul(rows as u64)
        }
        None => 0,
    }
}

fn longest(arg: Option<&ColumnarValue>, rows: usize) -> Result<u64> {
    let Some(arg) = arg else { return Ok(0) };
    let texts = Texts::of(arg)?;
    Ok((0..rows)
        .map(|row| texts.get(row).len() as u64)
        .max()
        .unwrap_or(0))
}
