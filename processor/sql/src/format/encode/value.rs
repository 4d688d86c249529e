//! Values as JSON.

use super::time;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::util::display::array_value_to_string;
use std::io::Write;

/// The values of a column.
pub(super) struct Value {
    pub(super) nulls: Option<NullBuffer>,
    pub(super) kind: Kind,
}

/// The values themselves, by how they are written.
pub(super) enum Kind {
    Boolean(ArrayRef),
    Ints(Vec<i64>),
    Unsigned(Vec<u64>),
    Floats(Vec<f64>),
    Floats32(Vec<f32>),
    Text(ArrayRef),
    Bytes(ArrayRef),
    Dates(Vec<i64>),
    /// Times in units of which so many make a second, as a power of ten.
    Times(Vec<i64>, usize),
    List(ArrayRef, Box<Value>),
    Struct(Vec<(String, Value)>),
    /// As Arrow shows it.
    Other(ArrayRef),
}

macro_rules! widened {
    ($array:expr, $type:ty, $wide:ty) => {
        $array
            .as_primitive::<$type>()
            .values()
            .iter()
            .map(|v| <$wide>::from(*v))
            .collect()
    };
}

impl Value {
    pub(super) fn new(array: &ArrayRef) -> Self {
        Self {
            nulls: array.logical_nulls(),
            kind: kind(array),
        }
    }

    /// Appends the JSON of a value.
    #[inline]
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.kind {
            Kind::Boolean(a) if a.as_boolean().value(row) => out.extend_from_slice(b"true"),
            Kind::Boolean(_) => out.extend_from_slice(b"false"),
            Kind::Ints(v) => json(&v[row], out),
            Kind::Unsigned(v) => json(&v[row], out),
            // What is no number in JSON is null.
            Kind::Floats(v) if !v[row].is_finite() => out.extend_from_slice(b"null"),
            Kind::Floats(v) => json(&v[row], out),
            Kind::Floats32(v) if !v[row].is_finite() => out.extend_from_slice(b"null"),
            Kind::Floats32(v) => json(&v[row], out),
            Kind::Text(a) => text(a.as_string::<i32>().value(row), out),
            Kind::List(..) | Kind::Struct(_) => self.write_nested(row, out),
            Kind::Bytes(_) | Kind::Dates(_) | Kind::Times(..) => {
                // Nothing in them needs an escape.
                out.push(b'"');
                self.write_plain(row, out);
                out.push(b'"');
            }
            Kind::Other(_) => {
                let mut plain = Vec::new();
                self.write_plain(row, &mut plain);
                text(&String::from_utf8_lossy(&plain), out);
            }
        }
    }

    fn write_nested(&self, row: usize, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::List(array, child) => {
                let offsets = array.as_list::<i32>().value_offsets();
                let rows = offsets[row] as usize..offsets[row + 1] as usize;
                out.push(b'[');
                for (at, row) in rows.enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    child.write(row, out);
                }
                out.push(b']');
            }
            Kind::Struct(children) => {
                out.push(b'{');
                for (at, (name, child)) in children.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    text(name, out);
                    out.push(b':');
                    child.write(row, out);
                }
                out.push(b'}');
            }
            _ => {}
        }
    }

    /// Appends a value that is not null, texts without quotes.
    pub(super) fn write_plain(&self, row: usize, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Text(a) => out.extend_from_slice(a.as_string::<i32>().value(row).as_bytes()),
            Kind::Bytes(a) => {
                for byte in a.as_binary::<i32>().value(row) {
                    write!(out, "{byte:02x}").expect("a vector takes any number of bytes");
                }
            }
            Kind::Dates(v) => time::date(v[row], out),
            Kind::Times(v, digits) => {
                let second = 10_i64.pow(*digits as u32);
                let fraction = v[row].rem_euclid(second) as u32;
                time::write(v[row].div_euclid(second), fraction, *digits, out);
            }
            Kind::Other(a) => {
                let shown = array_value_to_string(a, row).unwrap_or_default();
                out.extend_from_slice(shown.as_bytes());
            }
            _ => self.write(row, out),
        }
    }
}

fn kind(array: &ArrayRef) -> Kind {
    match array.data_type() {
        DataType::Boolean => Kind::Boolean(array.clone()),
        DataType::Int8 => Kind::Ints(widened!(array, Int8Type, i64)),
        DataType::Int16 => Kind::Ints(widened!(array, Int16Type, i64)),
        DataType::Int32 => Kind::Ints(widened!(array, Int32Type, i64)),
        DataType::Int64 => Kind::Ints(widened!(array, Int64Type, i64)),
        DataType::UInt8 => Kind::Unsigned(widened!(array, UInt8Type, u64)),
        DataType::UInt16 => Kind::Unsigned(widened!(array, UInt16Type, u64)),
        DataType::UInt32 => Kind::Unsigned(widened!(array, UInt32Type, u64)),
        DataType::UInt64 => Kind::Unsigned(widened!(array, UInt64Type, u64)),
        DataType::Float32 => Kind::Floats32(widened!(array, Float32Type, f32)),
        DataType::Float64 => Kind::Floats(widened!(array, Float64Type, f64)),
        DataType::Utf8 => Kind::Text(array.clone()),
        DataType::Binary => Kind::Bytes(array.clone()),
        DataType::Date32 => Kind::Dates(widened!(array, Date32Type, i64)),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => Kind::Times(widened!(array, TimestampSecondType, i64), 0),
            TimeUnit::Millisecond => Kind::Times(widened!(array, TimestampMillisecondType, i64), 3),
            TimeUnit::Microsecond => Kind::Times(widened!(array, TimestampMicrosecondType, i64), 6),
            TimeUnit::Nanosecond => Kind::Times(widened!(array, TimestampNanosecondType, i64), 9),
        },
        DataType::List(_) => {
            let child = Value::new(array.as_list::<i32>().values());
            Kind::List(array.clone(), Box::new(child))
        }
        DataType::Struct(fields) => {
            let children = fields.iter().zip(array.as_struct().columns());
            Kind::Struct(
                children
                    .map(|(f, c)| (f.name().clone(), Value::new(c)))
                    .collect(),
            )
        }
        _ => Kind::Other(array.clone()),
    }
}

fn json(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("plain values are JSON, and a vector takes all bytes");
}

/// Appends a text in quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    json(&text, out);
}
