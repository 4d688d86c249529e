//! A stream: a topic seen as rows, with names, types and a watermark that are checked.

use crate::error::{Error, Result};
use crate::format::avro::{self, Avro};
use crate::plan::literal;
use crate::statement::{
    ColumnSource, ColumnStatement, Options, PrimaryKeyStatement, StreamStatement,
    WatermarkStatement,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, DataType as SqlType, Expr, TimezoneInfo,
};
use flowstone_wire::PartitionId;
use std::sync::Arc;

/// How the value of a record is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object; columns are its members.
    Json,
    /// A record of Avro; columns are its fields.
    Avro(Avro),
    /// One line of separated values; columns are its fields in order.
    Csv {
        /// Between the fields.
        delimiter: u8,
    },
    /// The bytes as they are, in one column.
    Raw,
}

/// A column of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// What of the record it shows.
    pub source: ColumnSource,
}

/// How event time follows from the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Index of the column with the event time.
    pub column: usize,
    /// How far the watermark stays behind it, in milliseconds.
    pub delay_ms: i64,
}

/// A topic seen as rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// How values are written.
    pub format: Format,
    /// The columns.
    pub columns: Vec<Column>,
    /// How event time follows from the rows, if it does.
    pub watermark: Option<Watermark>,
    /// Index of the column with the key of the record, of a table: the latest record of each key is
    /// a row of it.
    pub primary_key: Option<usize>,
}

/// The column of [`Stream::with_marks`] with the offset of a record.
pub const OFFSET: &str = "@offset";
/// The column of [`Stream::with_marks`] that says whether a record has no value.
pub const DELETED: &str = "@deleted";

/// The one type of times: milliseconds since 1970, without a zone.
pub(crate) const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

impl Stream {
    /// The stream that a statement describes.
    ///
    /// # Errors
    /// What does not fit together, with its place.
    pub fn new(statement: &StreamStatement) -> Result<Self> {
        let mut options = statement.options.clone();
        let topic = options
            .take("topic")
            .unwrap_or_else(|| statement.name.clone());
        flowstone_wire::name::check("topic", &topic)
            .map_err(|f| Error::at(statement.place, f.message))?;
        let format = match options.take_choice("format", &["json", "csv", "raw", "avro"])? {
            None | Some(0) => Format::Json,
            Some(1) => Format::Csv {
                delimiter: delimiter(options.take("delimiter"), statement)?,
            },
            Some(2) => Format::Raw,
            Some(_) => Format::Avro(avro(&mut options, statement)?),
        };
        options.finish("topic, format, for csv delimiter, and for avro schema and schema_id")?;
        let mut columns = statement
            .columns
            .iter()
            .map(column)
            .collect::<Result<Vec<_>>>()?;
        let primary_key = match &statement.primary_key {
            Some(key) => Some(primary_key(key, &mut columns)?),
            None => None,
        };
        check_values(&format, statement, &columns)?;
        let watermark = statement
            .watermark
            .as_ref()
            .map(|w| watermark(w, &columns))
            .transpose()?;
        Ok(Self {
            name: statement.name.clone(),
            topic,
            format,
            columns,
            watermark,
            primary_key,
        })
    }

    /// Whether the latest record of each key counts, and not every record.
    pub fn is_table(&self) -> bool {
        self.primary_key.is_some()
    }

    /// The records of a table, with what says which of them count: their offsets as the column
    /// [`OFFSET`], and whether they have no value as [`DELETED`].
    pub fn with_marks(&self) -> Self {
        let mark = |name: &str, data_type, source| Column {
            name: name.into(),
            data_type,
            source,
        };
        let mut marked = self.clone();
        marked.columns.extend([
            mark(OFFSET, DataType::Int64, ColumnSource::Offset),
            mark(DELETED, DataType::Boolean, ColumnSource::Deleted),
        ]);
        marked
    }

    /// A topic of which nothing is declared: keys and values as text, and what stands beside them.
    /// `partitions` are its partitions in their order.
    pub fn of_topic(topic: &str, partitions: &[PartitionId]) -> Self {
        let mut indexes: Vec<(PartitionId, u32)> = partitions.iter().copied().zip(0..).collect();
        indexes.sort_unstable();
        let column = |(name, data_type, source): (&str, DataType, ColumnSource)| Column {
            name: name.into(),
            data_type,
            source,
        };
        let columns = [
            ("key", DataType::Utf8, ColumnSource::Key),
            ("value", DataType::Utf8, ColumnSource::Value),
            ("timestamp", TIMESTAMP, ColumnSource::Timestamp),
            (
                "partition",
                DataType::Int64,
                ColumnSource::PartitionIndex(indexes),
            ),
            ("offset", DataType::Int64, ColumnSource::Offset),
            ("headers", DataType::Utf8, ColumnSource::Headers),
        ];
        Self {
            name: topic.into(),
            topic: topic.into(),
            format: Format::Raw,
            columns: columns.into_iter().map(column).collect(),
            watermark: None,
            primary_key: None,
        }
    }

    /// The columns as Arrow sees them; every one may be null.
    pub fn schema(&self) -> SchemaRef {
        let field = |c: &Column| Field::new(&c.name, c.data_type.clone(), true);
        Arc::new(Schema::new(
            self.columns.iter().map(field).collect::<Vec<_>>(),
        ))
    }
}

fn delimiter(given: Option<String>, statement: &StreamStatement) -> Result<u8> {
    match given.as_deref().map(str::as_bytes) {
        None => Ok(b','),
        Some(&[one]) if one.is_ascii() && one != b'"' => Ok(one),
        Some(_) => {
            let text = "option 'delimiter' is one ASCII character, and not a double quote";
            Err(Error::at(statement.place, text))
        }
    }
}

fn avro(options: &mut Options, statement: &StreamStatement) -> Result<Avro> {
    let Some((text, place)) = options.take_placed("schema") else {
        let text =
            "format 'avro' needs the schema of its writers: schema = '{\"type\": \"record\", ...}'";
        return Err(Error::at(statement.place, text));
    };
    let schema = avro::Schema::parse(&text);
    let schema = schema.map_err(|e| Error::at(place, format!("the schema: {e}")))?;
    let schema_id = options.take_number("schema_id", 0..=i64::from(u32::MAX))?;
    Ok(Avro {
        schema: Arc::new(schema),
        schema_id: schema_id.and_then(|id| u32::try_from(id).ok()),
    })
}

/// What a format asks of the columns that show the value.
fn check_values(format: &Format, statement: &StreamStatement, columns: &[Column]) -> Result<()> {
    let mut values = columns.iter().filter(|c| c.source == ColumnSource::Value);
    let (first, count) = (values.next(), 1 + values.count());
    if *format == Format::Raw && first.is_some() {
        let text = first.is_some_and(|c| matches!(c.data_type, DataType::Utf8 | DataType::Binary));
        if count > 1 || !text {
            let text = "a raw stream shows its value in one column, VARCHAR or VARBINARY";
            return Err(Error::at(statement.place, text));
        }
    }
    if let Format::Avro(avro) = format {
        let values = columns.iter().zip(&statement.columns);
        for (column, said) in values.filter(|(c, _)| c.source == ColumnSource::Value) {
            avro.check(column).map_err(|e| Error::at(said.place, e))?;
        }
        return Ok(());
    }
    if let Some(at) = columns.iter().position(|c| c.data_type.is_nested())
        && *format != Format::Json
    {
        let text = "a list is read from JSON and Avro only: give VARCHAR";
        return Err(Error::at(statement.columns[at].place, text));
    }
    let binary = columns
        .iter()
        .position(|c| c.source == ColumnSource::Value && c.data_type == DataType::Binary);
    match binary {
        Some(at) if *format != Format::Raw => {
            let text = "a VARBINARY column shows a KEY, a HEADER, a raw value or bytes of Avro: give VARCHAR";
            Err(Error::at(statement.columns[at].place, text))
        }
        _ => Ok(()),
    }
}

fn column(statement: &ColumnStatement) -> Result<Column> {
    let data_type = data_type(&statement.data_type).ok_or_else(|| {
        let text = format!(
            "type {} is not supported: there are BOOLEAN, SMALLINT, INT, BIGINT, REAL, DOUBLE, \
             VARCHAR, VARBINARY, DATE and TIMESTAMP, and lists of them such as BIGINT[]",
            statement.data_type
        );
        Error::at(statement.place, text)
    })?;
    let fits = match statement.source {
        ColumnSource::Value => true,
        ColumnSource::Key => is_key(&data_type),
        ColumnSource::Header(_) => matches!(data_type, DataType::Utf8 | DataType::Binary),
        ColumnSource::Timestamp => data_type == TIMESTAMP,
        ColumnSource::Partition | ColumnSource::PartitionIndex(_) | ColumnSource::Offset => {
            data_type == DataType::Int64
        }
        ColumnSource::Headers => data_type == DataType::Utf8,
        ColumnSource::Deleted => data_type == DataType::Boolean,
    };
    if !fits {
        let text = "KEY and HEADER are VARCHAR or VARBINARY, a KEY also SMALLINT, INT or BIGINT, \
                    TIMESTAMP is TIMESTAMP, PARTITION and OFFSET are BIGINT";
        return Err(Error::at(statement.place, text));
    }
    Ok(Column {
        name: statement.name.clone(),
        data_type,
        source: statement.source.clone(),
    })
}

/// Types that the key of a record can be read as.
fn is_key(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Utf8 | DataType::Binary)
}

/// The column of the primary key, which shows the key of the record.
fn primary_key(statement: &PrimaryKeyStatement, columns: &mut [Column]) -> Result<usize> {
    let name = &statement.column;
    let Some(at) = columns.iter().position(|c| c.name == *name) else {
        let text = format!("there is no column '{name}'");
        return Err(Error::at(statement.place, text));
    };
    let column = &mut columns[at];
    let shows_key = matches!(column.source, ColumnSource::Value | ColumnSource::Key);
    if !shows_key || !is_key(&column.data_type) {
        let text = format!(
            "column '{name}' cannot be the key of the record: make it VARCHAR, VARBINARY, SMALLINT, \
             INT or BIGINT"
        );
        return Err(Error::at(statement.place, text));
    }
    column.source = ColumnSource::Key;
    Ok(at)
}

fn data_type(sql: &SqlType) -> Option<DataType> {
    Some(match sql {
        SqlType::Array(
            ArrayElemTypeDef::SquareBracket(element, None)
            | ArrayElemTypeDef::AngleBracket(element),
        ) => {
            let plain = |t: &DataType| !t.is_nested() && *t != DataType::Binary;
            let element = data_type(element).filter(plain)?;
            DataType::List(Arc::new(Field::new_list_field(element, true)))
        }
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::SmallInt(None) => DataType::Int16,
        SqlType::Int(None) | SqlType::Integer(None) => DataType::Int32,
        SqlType::BigInt(None) => DataType::Int64,
        SqlType::Real => DataType::Float32,
        SqlType::Double(_) | SqlType::DoublePrecision => DataType::Float64,
        SqlType::Varchar(None) | SqlType::Text | SqlType::String(None) => DataType::Utf8,
        SqlType::Varbinary(None) | SqlType::Bytea => DataType::Binary,
        SqlType::Date => DataType::Date32,
        SqlType::Timestamp(None | Some(3), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            TIMESTAMP
        }
        _ => return None,
    })
}

fn watermark(statement: &WatermarkStatement, columns: &[Column]) -> Result<Watermark> {
    let name = &statement.column;
    let Some(column) = columns.iter().position(|c| c.name == *name) else {
        return Err(Error::at(
            statement.place,
            format!("there is no column '{name}'"),
        ));
    };
    if columns[column].data_type != TIMESTAMP {
        return Err(Error::at(
            statement.place,
            format!("column '{name}' is not a TIMESTAMP"),
        ));
    }
    let names_it =
        |e: &Expr| matches!(e, Expr::Identifier(i) if crate::statement::name_of(i) == *name);
    let delay_ms = match &statement.expr {
        e if names_it(e) => Some(0),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Minus,
            right,
        } if names_it(left) => {
            literal::interval_ms(right, statement.expr_place)?.filter(|ms| *ms >= 0)
        }
        _ => None,
    };
    let Some(delay_ms) = delay_ms else {
        let text = format!("a watermark is {name}, or {name} - INTERVAL '...' of 0 or more");
        return Err(Error::at(statement.expr_place, text));
    };
    Ok(Watermark { column, delay_ms })
}
