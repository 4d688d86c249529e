//! One line of separated values (RFC 4180: fields in double quotes may hold the delimiter, and two
//! double quotes stand for one).

use super::decode::Table;
use crate::statement::ColumnSource;
use crate::stream::Stream;
use datafusion::arrow::datatypes::DataType;
use std::borrow::Cow;

/// Sets the values of one row; `columns` are those of the stream that are read.
pub(super) fn read(
    value: &[u8],
    delimiter: u8,
    stream: &Stream,
    columns: &[usize],
    table: &mut Table,
) -> Result<(), String> {
    let text = std::str::from_utf8(value).map_err(|_| "the value is not UTF-8".to_string())?;
    let mut rest = Some(line(text));
    let expected = stream
        .columns
        .iter()
        .filter(|c| c.source == ColumnSource::Value)
        .count();
    let values = stream.columns.iter().enumerate();
    let values = values.filter(|(_, c)| c.source == ColumnSource::Value);
    for (count, (at, _)) in values.enumerate() {
        let Some(line) = rest else {
            return Err(format!(
                "the line has {count} fields, and the stream {expected} columns"
            ));
        };
        let (field, quoted, behind) = field(line, char::from(delimiter))?;
        rest = behind;
        if let Ok(place) = columns.binary_search(&at) {
            set(place, &field, quoted, table)?;
        }
    }
    match rest {
        None => Ok(()),
        Some(_) => Err(format!(
            "the line has more fields than the {expected} columns of the stream"
        )),
    }
}

/// A line without its end.
pub(crate) fn line(text: &str) -> &str {
    text.strip_suffix('\n')
        .map_or(text, |t| t.strip_suffix('\r').unwrap_or(t))
}

/// The first field, whether it was in quotes, and what is behind it if there is more.
pub(crate) fn field(
    line: &str,
    delimiter: char,
) -> Result<(Cow<'_, str>, bool, Option<&str>), String> {
    let Some(mut rest) = line.strip_prefix('"') else {
        return Ok(match line.split_once(delimiter) {
            Some((field, behind)) => (Cow::Borrowed(field), false, Some(behind)),
            None => (Cow::Borrowed(line), false, None),
        });
    };
    let mut field = String::new();
    loop {
        let Some((part, behind)) = rest.split_once('"') else {
            return Err("a double quote is not closed".into());
        };
        field.push_str(part);
        if let Some(more) = behind.strip_prefix('"') {
            field.push('"');
            rest = more;
        } else if behind.is_empty() {
            return Ok((Cow::Owned(field), true, None));
        } else if let Some(more) = behind.strip_prefix(delimiter) {
            return Ok((Cow::Owned(field), true, Some(more)));
        } else {
            return Err("something stands behind a closing double quote".into());
        }
    }
}

/// An empty field is null, unless it is a text in quotes.
fn set(at: usize, field: &str, quoted: bool, table: &mut Table) -> Result<(), String> {
    if field.is_empty() && !quoted {
        table.set_null(at);
        return Ok(());
    }
    let wrong = |table: &Table| table.wrong(at, format!("'{field}'"));
    match &table.columns[at].data_type {
        DataType::Boolean => match field {
            "true" => table.set_bool(at, true),
            "false" => table.set_bool(at, false),
            _ => Err(wrong(table)),
        },
        DataType::Int16 | DataType::Int32 | DataType::Int64 => match field.parse() {
            Ok(value) => table.set_int(at, value),
            Err(_) => Err(wrong(table)),
        },
        DataType::Float32 | DataType::Float64 => match field.parse() {
            Ok(value) => table.set_float(at, value),
            Err(_) => Err(wrong(table)),
        },
        DataType::Timestamp(..) => match field.parse() {
            Ok(ms) => table.set_int(at, ms),
            Err(_) => table.set_text(at, field),
        },
        _ => table.set_text(at, field),
    }
}
