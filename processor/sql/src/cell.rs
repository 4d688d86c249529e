//! Values as bytes: how keys of groups and states of aggregates are stored.
//!
//! ```text
//! value    := 0 | 1 content
//! content  := numbers, times, decimals: their bytes, little-endian
//!           | boolean: one byte
//!           | text, bytes: length as varint, then the bytes
//!           | list: count as varint, then as many values
//!           | struct: a value for each field
//! ```
//!
//! The type is known from the plan and not written. Equal values have equal bytes, so that bytes
//! can stand for groups; a float counts as the bits that it has.

mod read;
mod write;

pub(crate) use read::Reader;
pub(crate) use write::Writer;

use datafusion::arrow::datatypes::DataType;

/// Whether values of a type can be stored.
pub(crate) fn is_storable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::Boolean => true,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => true,
        DataType::List(field) => is_storable(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| is_storable(f.data_type())),
        other => other.primitive_width().is_some(),
    }
}

/// Appends a length.
fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Takes a length; `None` if there is none.
fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}
