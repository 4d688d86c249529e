//! Writing the values of an array as bytes.

use super::push_length;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::buffer::{Buffer, NullBuffer};
use datafusion::arrow::datatypes::DataType;

/// Writes values of one array.
pub(crate) struct Writer {
    nulls: Option<NullBuffer>,
    content: Content,
}

/// The values without what says which are null.
pub(super) enum Content {
    Null,
    Fixed {
        bytes: Buffer,
        width: usize,
    },
    Bits(ArrayRef),
    Bytes {
        offsets: Vec<i64>,
        bytes: Buffer,
    },
    List {
        offsets: Vec<i64>,
        child: Box<Writer>,
    },
    Struct(Vec<Writer>),
}

impl Writer {
    /// A writer of the values of `array`, whose type must be storable ([`super::is_storable`]).
    pub(crate) fn new(array: &ArrayRef) -> Self {
        Self {
            nulls: array.logical_nulls(),
            content: content(array),
        }
    }

    /// Appends the value at `row`.
    #[inline]
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            out.push(0);
            return;
        }
        match &self.content {
            Content::Null => out.push(0),
            Content::Fixed { bytes, width } => {
                out.push(1);
                out.extend_from_slice(&bytes[row * width..(row + 1) * width]);
            }
            Content::Bits(array) => {
                out.extend_from_slice(&[1, u8::from(array.as_boolean().value(row))]);
            }
            Content::Bytes { offsets, bytes } => {
                let value = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
                out.push(1);
                push_length(out, value.len());
                out.extend_from_slice(value);
            }
            Content::List { offsets, child } => {
                let rows = offsets[row] as usize..offsets[row + 1] as usize;
                out.push(1);
                push_length(out, rows.len());
                rows.for_each(|row| child.write(row, out));
            }
            Content::Struct(children) => {
                out.push(1);
                children.iter().for_each(|child| child.write(row, out));
            }
        }
    }
}

pub(super) fn content(array: &ArrayRef) -> Content {
    match array.data_type() {
        DataType::Boolean => Content::Bits(array.clone()),
        DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => {
            let data = array.to_data();
            Content::Bytes {
                offsets: offsets(array),
                bytes: data.buffers()[1].clone(),
            }
        }
        DataType::List(_) => Content::List {
            offsets: offsets(array),
            child: Box::new(Writer::new(array.as_list::<i32>().values())),
        },
        DataType::Struct(_) => {
            let children = array.as_struct().columns();
            Content::Struct(children.iter().map(Writer::new).collect())
        }
        other => match other.primitive_width() {
            Some(width) => {
                let data = array.to_data();
                let bytes =
                    data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                Content::Fixed { bytes, width }
            }
            None => Content::Null,
        },
    }
}

fn offsets(array: &ArrayRef) -> Vec<i64> {
    let small = |offsets: &[i32]| offsets.iter().map(|o| i64::from(*o)).collect();
    match array.data_type() {
        DataType::Utf8 => small(array.as_string::<i32>().value_offsets()),
        DataType::Binary => small(array.as_binary::<i32>().value_offsets()),
        DataType::LargeUtf8 => array.as_string::<i64>().value_offsets().to_vec(),
        DataType::LargeBinary => array.as_binary::<i64>().value_offsets().to_vec(),
        _ => small(array.as_list::<i32>().value_offsets()),
    }
}
