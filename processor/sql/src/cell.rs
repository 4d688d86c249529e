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

mod ordered;
mod read;
mod write;

pub(crate) use ordered::{OrderedWriter, is_orderable};
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

/// Appends bytes that may be missing: `0`, or `1`, their length and them.
pub(crate) fn push_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        push_length(out, bytes.len());
        out.extend_from_slice(bytes);
    }
}

/// Takes what [`push_bytes`] wrote from the front; `None` if it is cut off.
pub(crate) fn take_bytes<'b>(from: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let (present, rest) = from.split_first()?;
    *from = rest;
    if *present == 0 {
        return Some(None);
    }
    let length = take_length(from)?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(Some(bytes))
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
