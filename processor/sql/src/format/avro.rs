//! Avro: the fields of a record that are columns, the others passed over.
//!
//! Read here and not by a library: each record is kept or refused by itself, with its reason, and goes into
//! the columns of the stream without becoming anything else before. A test holds it against `apache-avro`.

mod datum;
mod schema;

pub use schema::Schema;

use super::cells::Cells;
use super::decode::Table;
use crate::statement::ColumnSource;
use crate::stream::{Column, TIMESTAMP};
use datafusion::arrow::datatypes::DataType;
use datum::Datum;
use schema::{Kind, Long};
use std::sync::Arc;

/// How the value of a record is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avro {
    /// The schema that writers have.
    pub schema: Arc<Schema>,
    /// Its number in a schema registry, where values begin with one: a zero byte, then the number in four.
    pub schema_id: Option<u32>,
}

impl Avro {
    /// Checks that a column can be read.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn check(&self, column: &Column) -> Result<(), String> {
        let fields = &self.schema.fields;
        let Some(field) = fields.iter().find(|f| f.name == column.name) else {
            let known: Vec<&str> = fields.iter().map(|f| &f.name[..]).take(20).collect();
            let (name, known) = (&column.name, known.join(", "));
            return Err(format!("the schema has no field '{name}'; it has {known}"));
        };
        match self.fits(&field.kind, &column.data_type) {
            true => Ok(()),
            false => Err(format!(
                "field '{}' of the schema cannot be read as this type",
                column.name
            )),
        }
    }

    /// Whether values of a kind can be those of a column; each of them may still be too large.
    fn fits(&self, kind: &Kind, data_type: &DataType) -> bool {
        use DataType::{Binary, Boolean, Date32, Float32, Float64, Int16, Int32, Int64, Utf8};
        match (self.schema.of(kind), data_type) {
            (Kind::Null, _) => true,
            (Kind::Union(branches), _) => branches.iter().all(|b| self.fits(b, data_type)),
            (Kind::Boolean, Boolean)
            | (Kind::Long(_), Int16 | Int32 | Int64)
            | (Kind::Long(Long::Date), Date32)
            | (Kind::Float | Kind::Double | Kind::Long(Long::Plain), Float32 | Float64)
            | (Kind::String | Kind::Enum(_), Utf8)
            | (Kind::Bytes | Kind::Fixed(_), Binary) => true,
            (Kind::Long(l), t) => *t == TIMESTAMP && !matches!(l, Long::Date | Long::Time),
            (Kind::Array(element), DataType::List(field)) => self.fits(element, field.data_type()),
            _ => false,
        }
    }
}

/// Reads the values of a stream.
#[derive(Clone)]
pub(super) struct Reader {
    avro: Avro,
    /// For each field its column, if it is read.
    places: Vec<Option<usize>>,
}

impl Reader {
    pub(super) fn new(avro: &Avro, columns: &[Column]) -> Self {
        let place = |name: &str| {
            let shows = |c: &Column| c.source == ColumnSource::Value && c.name == name;
            columns.iter().position(shows)
        };
        Self {
            places: avro.schema.fields.iter().map(|f| place(&f.name)).collect(),
            avro: avro.clone(),
        }
    }

    /// Sets the values of one row.
    pub(super) fn read(&self, value: &[u8], table: &mut Table) -> Result<(), String> {
        let mut datum = Datum(self.avro.framed(value)?);
        let schema = &*self.avro.schema;
        for (field, place) in schema.fields.iter().zip(&self.places) {
            let read = match place {
                None => datum.skip(schema, &field.kind, 0),
                Some(at) => take(&mut datum, schema, &field.kind, *at, table),
            };
            read.map_err(|e| format!("field '{}': {e}", field.name))?;
        }
        match datum.0.len() {
            0 => Ok(()),
            more => Err(format!(
                "{more} bytes follow the end of the value: it has another schema"
            )),
        }
    }
}

impl Avro {
    fn framed<'a>(&self, value: &'a [u8]) -> Result<&'a [u8], String> {
        let Some(wanted) = self.schema_id else {
            return Ok(value);
        };
        match value {
            [0, a, b, c, d, datum @ ..] => match u32::from_be_bytes([*a, *b, *c, *d]) {
                id if id == wanted => Ok(datum),
                id => Err(format!(
                    "it is written with schema {id}, and the stream has {wanted}"
                )),
            },
            _ => Err("it does not begin with the number of a schema".into()),
        }
    }
}

/// Takes the value of a field into its column.
#[inline]
fn take(
    datum: &mut Datum<'_>,
    schema: &Schema,
    kind: &Kind,
    at: usize,
    table: &mut Table,
) -> Result<(), String> {
    match schema.of(kind) {
        Kind::Null => table.set_null(at),
        Kind::Long(long) => {
            let value = datum.long()?;
            if !table.cell(at).set_number(value, *long) {
                return Err(table.wrong(at, value));
            }
        }
        Kind::Boolean => {
            let value = datum.boolean()?;
            table.set_bool(at, value)?;
        }
        Kind::Float => table.set_float(at, f64::from(datum.float()?))?,
        Kind::Double => table.set_float(at, datum.double()?)?,
        Kind::Bytes => table.set_bytes(at, datum.sized()?)?,
        Kind::Fixed(size) => table.set_bytes(at, datum.bytes(*size)?)?,
        Kind::String => table.set_bytes(at, datum.sized()?)?,
        Kind::Enum(symbols) => {
            table.set_bytes(at, symbols[datum.index(symbols.len())?].as_bytes())?
        }
        Kind::Union(branches) => {
            let branch = datum.index(branches.len())?;
            take(datum, schema, &branches[branch], at, table)?;
        }
        Kind::Array(element) => {
            let wrong = "elements that do not fit";
            let Some(list) = table.list(at) else {
                return Err(table.wrong(at, "a list"));
            };
            let fits = elements(datum, schema, element, &mut list.elements)?;
            list.end(true);
            if !fits {
                return Err(table.wrong(at, wrong));
            }
        }
        // A column of one is refused when the stream is made.
        Kind::Map(_) | Kind::Record(_) | Kind::Named(_) => return Err(table.wrong(at, "a record")),
    }
    Ok(())
}

/// Takes the elements of an array. Says whether all fit.
fn elements(
    datum: &mut Datum<'_>,
    schema: &Schema,
    element: &Kind,
    cells: &mut Cells,
) -> Result<bool, String> {
    let mut fit = true;
    loop {
        let count = datum.block()?;
        if count == 0 {
            return Ok(fit);
        }
        for _ in 0..count {
            fit &= take_element(datum, schema, element, cells)?;
        }
    }
}

fn take_element(
    datum: &mut Datum<'_>,
    schema: &Schema,
    kind: &Kind,
    cells: &mut Cells,
) -> Result<bool, String> {
    Ok(match schema.of(kind) {
        Kind::Null => {
            cells.push_null();
            true
        }
        Kind::Boolean => cells.set_bool(datum.boolean()?),
        Kind::Long(long) => cells.set_number(datum.long()?, *long),
        Kind::Float => cells.set_float(f64::from(datum.float()?)),
        Kind::Double => cells.set_float(datum.double()?),
        Kind::String => match std::str::from_utf8(datum.sized()?) {
            Ok(text) => cells.set_text(text),
            Err(_) => false,
        },
        Kind::Enum(symbols) => cells.set_text(&symbols[datum.index(symbols.len())?]),
        Kind::Union(branches) => {
            let branch = datum.index(branches.len())?;
            return take_element(datum, schema, &branches[branch], cells);
        }
        _ => false,
    })
}

impl Cells {
    /// Adds a number, which may be a time or a day; says whether it fits.
    fn set_number(&mut self, value: i64, long: Long) -> bool {
        match (&mut *self, long) {
            (Self::Date(b), Long::Date) => {
                i32::try_from(value).map(|day| b.append_value(day)).is_ok()
            }
            (Self::Date(_), _) => false,
            (Self::Time(_), Long::Micros) => self.set_int(value.div_euclid(1000)),
            (Self::Time(_), Long::Nanos) => self.set_int(value.div_euclid(1_000_000)),
            _ => self.set_int(value),
        }
    }
}
