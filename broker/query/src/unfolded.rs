//! `unnest` in pieces: every element takes the other columns of its row along, so a batch of long lists beside long
//! texts would be far more than was read.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::physical_plan::unnest::ListUnnest;

/// Most bytes that a row may become.
const ROW_BYTES_MAX: usize = 64 << 20;
/// Most bytes that the rows of one piece become, if they are more than one.
const PIECE_BYTES_MAX: usize = 16 << 20;

/// The batch in pieces that do not become too much.
///
/// # Errors
/// A row that does by itself.
pub(crate) fn pieces(batch: &RecordBatch, lists: &[ListUnnest]) -> Result<Vec<RecordBatch>> {
    let (mut pieces, mut from, mut bytes) = (Vec::new(), 0, 0_usize);
    for row in 0..batch.num_rows() {
        let becomes = becomes(batch, lists, row);
        if becomes > ROW_BYTES_MAX {
            return exec_err!(
                "unnest would make {becomes} bytes of one row, over the limit of {ROW_BYTES_MAX}: select less beside it"
            );
        }
        if row > from && bytes + becomes > PIECE_BYTES_MAX {
            pieces.push(batch.slice(from, row - from));
            (from, bytes) = (row, 0);
        }
        bytes += becomes;
    }
    pieces.push(batch.slice(from, batch.num_rows() - from));
    Ok(pieces)
}

/// Bytes of the rows that a row becomes, about.
fn becomes(batch: &RecordBatch, lists: &[ListUnnest], row: usize) -> usize {
    let of_list = |l: &ListUnnest| elements(batch.column(l.index_in_input_schema), row, l.depth);
    let rows = lists.iter().map(of_list).max().unwrap_or(1);
    let columns = batch.columns().iter().enumerate();
    let kept = columns.filter(|(at, _)| lists.iter().all(|l| l.index_in_input_schema != *at));
    let width: usize = kept.map(|(_, column)| bytes(column, row)).sum();
    rows.saturating_mul(width + lists.len() * 8)
}

/// The elements of a list, and so on for lists in it.
fn elements(list: &dyn Array, row: usize, depth: usize) -> usize {
    let (mut from, mut to) = (row, row + 1);
    let mut values = list;
    for _ in 0..depth {
        let DataType::List(_) = values.data_type() else {
            break;
        };
        let list = values.as_list::<i32>();
        let offsets = list.value_offsets();
        (from, to) = (offsets[from] as usize, offsets[to] as usize);
        values = &**list.values();
    }
    to - from
}

fn bytes(column: &dyn Array, row: usize) -> usize {
    let between = |offsets: &[i32]| (offsets[row + 1] - offsets[row]) as usize;
    match column.data_type() {
        DataType::Utf8 => between(column.as_string::<i32>().value_offsets()),
        DataType::Binary => between(column.as_binary::<i32>().value_offsets()),
        DataType::Utf8View => column.as_string_view().value(row).len(),
        DataType::BinaryView => column.as_binary_view().value(row).len(),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let (values, offsets) = (list.values(), list.value_offsets());
            let rows = offsets[row] as usize..offsets[row + 1] as usize;
            rows.map(|row| bytes(values, row)).sum()
        }
        DataType::Struct(_) => {
            let columns = column.as_struct().columns().iter();
            columns.map(|c| bytes(c, row)).sum()
        }
        other => other.primitive_width().unwrap_or(16),
    }
}
