//! How many bytes values are, of those of a slice only what is in it.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use datafusion::arrow::datatypes::{ArrowNativeType, ByteArrayType, ByteViewType, DataType};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

/// Bytes of the values of an array.
pub(super) fn of(array: &dyn Array) -> u64 {
    let rows = array.len() as u64;
    match array.data_type() {
        DataType::Utf8 => bytes(array.as_string::<i32>()),
        DataType::LargeUtf8 => bytes(array.as_string::<i64>()),
        DataType::Binary => bytes(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes(array.as_binary::<i64>()),
        DataType::Utf8View => views(array.as_string_view()),
        DataType::BinaryView => views(array.as_binary_view()),
        DataType::List(_) => list::<i32>(array),
        DataType::LargeList(_) => list::<i64>(array),
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            rows + columns.iter().map(|c| of(c)).sum::<u64>()
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (from, to) = (map.value_offsets()[0], map.value_offsets()[map.len()]);
            let entries = map.entries().slice(from as usize, (to - from) as usize);
            4 * rows + of(&entries)
        }
        DataType::Boolean | DataType::Null => rows,
        other => match other.primitive_width() {
            Some(width) => rows * width as u64,
            // It is not known how values are shared in it.
            None => array.get_array_memory_size() as u64,
        },
    }
}

fn bytes<T: ByteArrayType>(array: &datafusion::arrow::array::GenericByteArray<T>) -> u64 {
    let offsets = array.value_offsets();
    let width = size_of::<T::Offset>() * array.len();
    (offsets[array.len()].as_usize() - offsets[0].as_usize() + width) as u64
}

fn views<T: ByteViewType + ?Sized>(
    array: &datafusion::arrow::array::GenericByteViewArray<T>,
) -> u64 {
    array.lengths().map(|l| u64::from(l) + 16).sum()
}

fn list<O: OffsetSizeTrait>(array: &dyn Array) -> u64 {
    let list = array.as_list::<O>();
    let offsets = list.value_offsets();
    let (from, to) = (offsets[0].as_usize(), offsets[list.len()].as_usize());
    (size_of::<O>() * list.len()) as u64 + of(&list.values().slice(from, to - from))
}

/// Bytes of an argument that stands for so many rows.
pub(super) fn of_value(value: &ColumnarValue, rows: usize) -> Result<u64> {
    Ok(match value {
        ColumnarValue::Array(array) => of(array),
        ColumnarValue::Scalar(scalar) => of(&scalar.to_array()?).saturating_mul(rows as u64),
    })
}

/// Bytes of the largest value of an argument, at most.
pub(super) fn largest(value: &ColumnarValue) -> Result<u64> {
    let array = match value {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let one = |row: usize| of(&array.slice(row, 1));
    Ok((0..array.len()).map(one).max().unwrap_or(0))
}

/// The texts of an argument, one for each row.
pub(super) struct Texts {
    array: ArrayRef,
    is_scalar: bool,
}

impl Texts {
    /// # Errors
    /// A value that is no array.
    pub(super) fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self {
                array: array.clone(),
                is_scalar: false,
            },
            ColumnarValue::Scalar(scalar) => Self {
                array: scalar.to_array()?,
                is_scalar: true,
            },
        })
    }

    /// The text of a row; of null and of what is no text, an empty one.
    pub(super) fn get(&self, row: usize) -> &str {
        let row = if self.is_scalar { 0 } else { row };
        if self.array.is_null(row) {
            return "";
        }
        match self.array.data_type() {
            DataType::Utf8 => self.array.as_string::<i32>().value(row),
            DataType::LargeUtf8 => self.array.as_string::<i64>().value(row),
            DataType::Utf8View => self.array.as_string_view().value(row),
            _ => "",
        }
    }
}
