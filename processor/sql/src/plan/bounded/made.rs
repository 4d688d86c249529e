//! How much a function would make, before it does.

use super::size::{self, Texts, of_value};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
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
    /// The first argument so many times.
    Times(u64),
    /// The second argument, which says how the first is written, so many times.
    Written(u64),
    /// Lists side by side, each as long as the longest.
    Zipped,
    /// It makes little, but compares each character of one argument with each of the other.
    Compared,
}

/// Most bytes that an element takes as text beyond those that it has, if it is not a fraction.
const ELEMENT_TEXT_BYTES: u64 = 32;
/// Most bytes of an element that is no list and no text.
const ELEMENT_BYTES: u64 = 16;
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
            let flags = args.get(3).map(Texts::of).transpose()?;
            let each = |row: usize, s: &str, _: &str, by: &str| {
                let (text, size) = (s.len() as u64, by.len() as u64);
                let all = flags.as_ref().is_some_and(|f| f.get(row).contains('g'));
                let times = if all { text + 1 } else { 1 };
                // All that a reference refers to is in the text once.
                let references = by.bytes().filter(|b| matches!(b, b'\\' | b'$')).count() as u64;
                let kept = text.saturating_mul(references + 1);
                kept.saturating_add(times.saturating_mul(size))
            };
            by_row(args, rows, each)?
        }
        Growth::Groups => {
            let each = |_: usize, s: &str, pattern: &str, _: &str| {
                let groups = pattern.bytes().filter(|b| *b == b'(').count() as u64;
                (s.len() as u64 + ELEMENT_BYTES).saturating_mul(groups + 1)
            };
            by_row(args, rows, each)?
        }
        Growth::Elements => {
            let (between, null) = (longest(args.get(1), rows)?, longest(args.get(2), rows)?);
            let lists = lists(args, rows)?;
            let each = between.saturating_add(null.max(ELEMENT_TEXT_BYTES));
            let of_elements = lists.elements.saturating_mul(each);
            size(0)?
                .saturating_add(of_elements)
                .saturating_add(lists.fractions)
        }
        Growth::Swapped => {
            let largest = args.get(2).map_or(Ok(0), size::largest)?;
            let swapped = lists(args, rows)?.elements.saturating_mul(largest);
            size(0)?.saturating_add(swapped)
        }
        Growth::Zipped => {
            let most = lists(args, rows)?;
            let width = ELEMENT_BYTES * args.len() as u64;
            sum(args, rows)?.saturating_add(most.longest.saturating_mul(width))
        }
        Growth::Filled => {
            let characters = match args.get(1) {
                Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(n)))) => (*n).max(0) as u64,
                _ => super::FILLED_MAX as u64,
            };
            // What is longer is cut.
            characters.saturating_mul(CHAR_BYTES * rows as u64)
        }
        Growth::Times(times) => size(0)?.saturating_mul(times),
        Growth::Written(times) => size(1)?.saturating_mul(times),
        Growth::Compared => {
            let each = |_: usize, a: &str, b: &str, _: &str| {
                (a.len() as u64).saturating_mul(b.len() as u64)
            };
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
    each: impl Fn(usize, &str, &str, &str) -> u64,
) -> Result<u64> {
    let texts = args.iter().take(3).map(Texts::of);
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let text = |at: usize, row: usize| texts.get(at).map_or("", |t| t.get(row));
    let sum = (0..rows).map(|row| each(row, text(0, row), text(1, row), text(2, row)));
    Ok(sum.fold(0, u64::saturating_add))
}

/// Finding what is replaced takes as long as replacing it: it is done only where it matters.
fn replaced(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let at_most = |_: usize, s: &str, from: &str, to: &str| {
        let times = (s.len() / from.len().max(1) + 1) as u64;
        times.saturating_mul(to.len() as u64) + s.len() as u64
    };
    let bound = by_row(args, rows, at_most)?;
    if bound <= super::growing::MADE_BYTES_MAX {
        return Ok(bound);
    }
    by_row(args, rows, |_, s, from, to| {
        let times = s.matches(from).count() as u64;
        times.saturating_mul(to.len() as u64) + s.len() as u64
    })
}

/// What is known of lists.
#[derive(Default)]
struct Lists {
    /// Elements of those of the first argument, those of lists in them counted in place of these.
    elements: u64,
    /// Bytes of their fractions as text, which may be as long as 10 to the 308th, in full.
    fractions: u64,
    /// For each row the length of its longest list, together.
    longest: u64,
}

fn lists(args: &[ColumnarValue], rows: usize) -> Result<Lists> {
    let mut found = Lists::default();
    let mut lengths = vec![0; rows];
    for (at, arg) in args.iter().enumerate() {
        // A constant stands in every row.
        let (array, times) = match arg {
            ColumnarValue::Array(array) => (array.clone(), 1),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, rows as u64),
        };
        if let Some(list) = array.as_list_opt::<i32>() {
            for (row, longest) in lengths.iter_mut().enumerate() {
                let row = if times == 1 { row } else { 0 };
                *longest = (list.value_length(row) as u64).max(*longest);
            }
        }
        if at == 0 {
            innermost(&array, &mut found);
            found.elements = found.elements.saturating_mul(times);
            found.fractions = found.fractions.saturating_mul(times);
        }
    }
    found.longest = lengths.into_iter().sum();
    Ok(found)
}

/// Counts the elements of lists, only of those rows that are in a slice.
fn innermost(array: &ArrayRef, found: &mut Lists) {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            let (from, to) = (offsets[0] as usize, offsets[list.len()] as usize);
            innermost(&list.values().slice(from, to - from), found);
        }
        DataType::Float64 => {
            found.elements += array.len() as u64;
            let values = array.as_primitive::<Float64Type>().values();
            found.fractions += values.iter().map(|v| digits(*v)).sum::<u64>();
        }
        DataType::Float32 => {
            found.elements += array.len() as u64;
            let values = array.as_primitive::<Float32Type>().values();
            found.fractions += values.iter().map(|v| digits(f64::from(*v))).sum::<u64>();
        }
        _ => found.elements += array.len() as u64,
    }
}

/// Zeros of a number in full, before or behind its digits.
fn digits(number: f64) -> u64 {
    match number.is_normal() {
        true => number.abs().log10().abs() as u64,
        false => 330,
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
