//! Rows as Avro (specification 1.12, "Binary Encoding"): a record, each field of which may be null.

use super::value::{Kind, Value};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::json;

/// The schema of results, as text; `name` is that of the record.
///
/// # Errors
/// A name that Avro does not take, and what to do.
pub(crate) fn schema(name: &str, columns: &Schema) -> Result<String, String> {
    let mut records = 0;
    let record = record(&letters(name), columns.fields(), &mut records)?;
    Ok(record.to_string())
}

/// A name of Avro like another one: letters, digits and underscores, no digit first.
fn letters(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(kept).collect();
    match name.bytes().next() {
        Some(b'0'..=b'9') | None => format!("_{name}"),
        _ => name,
    }
}

fn record(name: &str, fields: &Fields, records: &mut u32) -> Result<serde_json::Value, String> {
    let one = |field: &std::sync::Arc<Field>, records: &mut u32| {
        if letters(field.name()) != *field.name() {
            return Err(format!(
                "format 'avro' has no field '{}': give the column a name of letters, digits and underscores, with AS",
                field.name()
            ));
        }
        let kind = kind(name, field.data_type(), records)?;
        Ok(json!({"name": field.name(), "type": ["null", kind]}))
    };
    let mut names = std::collections::BTreeSet::new();
    if let Some(twice) = fields.iter().find(|f| !names.insert(f.name())) {
        return Err(format!(
            "format 'avro' has one field '{}': give the other one another name with AS",
            twice.name()
        ));
    }
    let fields = fields.iter().map(|f| one(f, records));
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"type": "record", "name": name, "fields": fields}))
}

fn kind(outer: &str, data_type: &DataType, records: &mut u32) -> Result<serde_json::Value, String> {
    use DataType as T;
    let logical = |kind, logical| json!({"type": kind, "logicalType": logical});
    Ok(match data_type {
        T::Boolean => json!("boolean"),
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 => json!("int"),
        T::Int64 | T::UInt32 | T::UInt64 => json!("long"),
        T::Float32 => json!("float"),
        T::Float64 => json!("double"),
        T::Binary => json!("bytes"),
        T::Date32 => logical("int", "date"),
        T::Timestamp(unit, _) => match unit {
            TimeUnit::Second | TimeUnit::Millisecond => logical("long", "timestamp-millis"),
            TimeUnit::Microsecond => logical("long", "timestamp-micros"),
            TimeUnit::Nanosecond => logical("long", "timestamp-nanos"),
        },
        T::List(element) => {
            let items = kind(outer, element.data_type(), records)?;
            json!({"type": "array", "items": ["null", items]})
        }
        T::Struct(fields) => {
            *records += 1;
            record(&format!("{outer}_{records}"), fields, records)?
        }
        // As JSON has them: as text.
        _ => json!("string"),
    })
}

/// Writes rows.
pub(crate) struct Avro {
    schema_id: Option<u32>,
    columns: Vec<Value>,
}

impl Avro {
    /// # Errors
    /// A number that Avro does not have.
    pub(super) fn new(schema_id: Option<u32>, batch: &RecordBatch) -> Result<Self, String> {
        let columns: Vec<Value> = batch.columns().iter().map(Value::new).collect();
        columns.iter().try_for_each(fits)?;
        Ok(Self { schema_id, columns })
    }

    /// Appends the record of a row, behind the number of its schema if it has one.
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if let Some(id) = self.schema_id {
            out.push(0);
            out.extend_from_slice(&id.to_be_bytes());
        }
        self.columns.iter().for_each(|c| write(c, row, out));
    }
}

fn fits(value: &Value) -> Result<(), String> {
    match &value.kind {
        Kind::Unsigned(v) => match v.iter().find(|n| i64::try_from(**n).is_err()) {
            Some(n) => Err(format!("{n} is too large for a long of Avro")),
            None => Ok(()),
        },
        Kind::List(_, child) => fits(child),
        Kind::Struct(children) => children.iter().try_for_each(|(_, c)| fits(c)),
        _ => Ok(()),
    }
}

/// Appends a value, or that there is none.
fn write(value: &Value, row: usize, out: &mut Vec<u8>) {
    if value.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
        return long(0, out);
    }
    long(1, out);
    match &value.kind {
        Kind::Boolean(a) => out.push(u8::from(a.as_boolean().value(row))),
        Kind::Ints(v) | Kind::Dates(v) => long(v[row], out),
        // There are no seconds in Avro.
        Kind::Times(v, 0) => long(v[row].saturating_mul(1000), out),
        Kind::Times(v, _) => long(v[row], out),
        Kind::Unsigned(v) => long(v[row] as i64, out),
        Kind::Floats(v) => out.extend_from_slice(&v[row].to_le_bytes()),
        Kind::Floats32(v) => out.extend_from_slice(&v[row].to_le_bytes()),
        Kind::Text(a) => bytes(a.as_string::<i32>().value(row).as_bytes(), out),
        Kind::Bytes(a) => bytes(a.as_binary::<i32>().value(row), out),
        Kind::List(array, child) => {
            let offsets = array.as_list::<i32>().value_offsets();
            let rows = offsets[row] as usize..offsets[row + 1] as usize;
            if !rows.is_empty() {
                long(rows.len() as i64, out);
                rows.for_each(|row| write(child, row, out));
            }
            long(0, out);
        }
        Kind::Struct(children) => children.iter().for_each(|(_, c)| write(c, row, out)),
        Kind::Other(_) => {
            let mut text = Vec::new();
            value.write_plain(row, &mut text);
            bytes(&text, out);
        }
    }
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A number in as many bytes as it needs, seven bits in each, small ones of either sign in few.
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
