//! Rows to the bytes of records, and groups to keys.

pub(crate) mod avro;
mod time;
mod value;

use crate::pipeline::OutputFormat;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use value::Value;

/// Writes the rows of a batch in the format of a pipeline.
pub(crate) enum Encoder<'b> {
    Json(Json),
    Raw(&'b ArrayRef),
    Avro(avro::Avro),
}

impl<'b> Encoder<'b> {
    /// # Errors
    /// Columns that do not fit the format.
    pub(crate) fn new(format: OutputFormat, batch: &'b RecordBatch) -> Result<Self, String> {
        match format {
            OutputFormat::Json => Ok(Self::Json(Json::new(batch))),
            OutputFormat::Avro { schema_id } => avro::Avro::new(schema_id, batch).map(Self::Avro),
            OutputFormat::Raw if batch.num_columns() == 1 => Ok(Self::Raw(batch.column(0))),
            OutputFormat::Raw => Err("a raw result has one column".into()),
        }
    }

    /// The value of a row; `out` is empty and to be used for it. `None` is no value.
    #[inline]
    pub(crate) fn write<'o>(&'o self, row: usize, out: &'o mut Vec<u8>) -> Option<&'o [u8]> {
        match self {
            Self::Json(json) => {
                json.write(row, out);
                Some(out)
            }
            Self::Avro(avro) => {
                avro.write(row, out);
                Some(out)
            }
            Self::Raw(column) if column.is_null(row) => None,
            Self::Raw(column) => Some(match column.data_type() {
                DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes(),
                _ => column.as_binary::<i32>().value(row),
            }),
        }
    }
}

/// Writes rows as JSON objects.
pub struct Json {
    /// For each column what stands before its value, and its values.
    columns: Vec<(Vec<u8>, Value)>,
}

impl Json {
    /// A writer of these rows.
    pub fn new(batch: &RecordBatch) -> Self {
        let schema = batch.schema();
        let fields = schema.fields().iter().zip(batch.columns()).enumerate();
        let column = |(at, (field, column)): (
            usize,
            (
                &std::sync::Arc<datafusion::arrow::datatypes::Field>,
                &ArrayRef,
            ),
        )| {
            let mut before = vec![if at == 0 { b'{' } else { b',' }];
            value::text(field.name(), &mut before);
            before.push(b':');
            (before, Value::new(column))
        };
        Self {
            columns: fields.map(column).collect(),
        }
    }

    /// Appends the object of a row.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.columns.is_empty() {
            out.push(b'{');
        }
        for (before, value) in &self.columns {
            out.extend_from_slice(before);
            value.write(row, out);
        }
        out.push(b'}');
    }
}

/// The keys of `count` groups: the text of the one column, or a JSON list of several. A group
/// without columns, and one whose only value is null, has no key.
pub(crate) fn keys(columns: &[ArrayRef], count: usize) -> BinaryArray {
    let values: Vec<Value> = columns.iter().map(Value::new).collect();
    let mut keys = BinaryBuilder::with_capacity(count, count * 16);
    let mut key = Vec::new();
    for row in 0..count {
        key.clear();
        match &values[..] {
            [] => keys.append_null(),
            [_] if columns[0].is_null(row) => keys.append_null(),
            [one] => {
                one.write_plain(row, &mut key);
                keys.append_value(&key);
            }
            several => {
                for (at, value) in several.iter().enumerate() {
                    key.push(if at == 0 { b'[' } else { b',' });
                    value.write(row, &mut key);
                }
                key.push(b']');
                keys.append_value(&key);
            }
        }
    }
    keys.finish()
}
