//! `CREATE STREAM` and `CREATE TABLE`: a topic seen as rows.

use super::cursor::Cursor;
use super::{Options, options};
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType, Expr};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use flowstone_wire::PartitionId;

/// Most columns of a stream.
const COLUMNS_MAX: usize = 512;

/// A topic seen as rows.
#[derive(Clone, Debug)]
pub struct StreamStatement {
    /// Name of the stream.
    pub name: String,
    /// Where the name stands.
    pub place: Location,
    /// The columns.
    pub columns: Vec<ColumnStatement>,
    /// How far event time has come when a row is there.
    pub watermark: Option<WatermarkStatement>,
    /// The column with the key, of a table: of each key the latest record counts.
    pub primary_key: Option<PrimaryKeyStatement>,
    /// What is set with `WITH`.
    pub options: Options,
}

/// A column.
#[derive(Clone, Debug)]
pub struct ColumnStatement {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub place: Location,
    /// Its type.
    pub data_type: DataType,
    /// What of the record it shows.
    pub source: ColumnSource,
}

/// What of a record a column shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnSource {
    /// A field of the value.
    Value,
    /// The key.
    Key,
    /// The timestamp.
    Timestamp,
    /// The number of the partition in the cluster.
    Partition,
    /// The index of the partition in its topic: numbers in their order, each with its index. Not to
    /// be said in a statement.
    PartitionIndex(Vec<(PartitionId, u32)>),
    /// Whether the record has no value: of a table its row is gone.
    Deleted,
    /// The offset in the partition.
    Offset,
    /// The first header of this name.
    Header(String),
    /// All headers, as a JSON object.
    Headers,
}

/// `WATERMARK FOR column AS expr`.
#[derive(Clone, Debug)]
pub struct WatermarkStatement {
    /// The column.
    pub column: String,
    /// Where its name stands.
    pub place: Location,
    /// The expression.
    pub expr: Expr,
    /// Where the expression stands.
    pub expr_place: Location,
}

/// `PRIMARY KEY (column)`.
#[derive(Clone, Debug)]
pub struct PrimaryKeyStatement {
    /// The column.
    pub column: String,
    /// Where its name stands.
    pub place: Location,
}

/// What stands behind `CREATE STREAM` or `CREATE TABLE`.
pub(super) fn parse(mut cursor: Cursor, is_table: bool) -> Result<StreamStatement> {
    let (name, span) = cursor.name()?;
    let what = if is_table { "table" } else { "stream" };
    flowstone_wire::name::check(what, &name).map_err(|f| Error::at(span.start, f.message))?;
    let mut columns = Vec::new();
    let mut watermark = None;
    let mut primary_key = None;
    cursor.expect(&Token::LParen)?;
    loop {
        let place = cursor.place();
        if cursor.take_word("WATERMARK") {
            if watermark.is_some() || is_table {
                let text = "a stream has one WATERMARK, a table has none";
                return Err(Error::at(place, text));
            }
            watermark = Some(parse_watermark(&mut cursor)?);
        } else if cursor.take_word("PRIMARY") {
            let key = parse_primary_key(&mut cursor)?;
            note_primary_key(&mut primary_key, key, is_table, place)?;
        } else {
            let column = parse_column(&mut cursor, &columns)?;
            let key_place = cursor.place();
            if cursor.take_word("PRIMARY") {
                cursor.expect_word("KEY")?;
                let key = PrimaryKeyStatement {
                    column: column.name.clone(),
                    place: column.place,
                };
                note_primary_key(&mut primary_key, key, is_table, key_place)?;
            }
            columns.push(column);
        }
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen)?;
    let options = options::parse(&mut cursor)?;
    cursor.finish()?;
    if is_table && primary_key.is_none() {
        let text = format!("table '{name}' has no PRIMARY KEY (column): the key of the record");
        return Err(Error::at(span.start, text));
    }
    Ok(StreamStatement {
        name,
        place: span.start,
        columns,
        watermark,
        primary_key,
        options,
    })
}

fn parse_column(cursor: &mut Cursor, before: &[ColumnStatement]) -> Result<ColumnStatement> {
    let (name, span) = cursor.name()?;
    if before.iter().any(|c| c.name == name) {
        return Err(Error::at(
            span.start,
            format!("column '{name}' is there twice"),
        ));
    }
    if before.len() == COLUMNS_MAX {
        return Err(Error::at(
            span.start,
            format!("a stream has at most {COLUMNS_MAX} columns"),
        ));
    }
    let mut data_type = cursor.part(|p| p.parse_data_type())?;
    if cursor.take_word("ARRAY") {
        data_type = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(data_type), None));
    }
    Ok(ColumnStatement {
        name,
        place: span.start,
        data_type,
        source: parse_source(cursor)?,
    })
}

fn parse_source(cursor: &mut Cursor) -> Result<ColumnSource> {
    if !cursor.take_word("FROM") {
        return Ok(ColumnSource::Value);
    }
    let plain = [
        ("KEY", ColumnSource::Key),
        ("TIMESTAMP", ColumnSource::Timestamp),
        ("PARTITION", ColumnSource::Partition),
        ("OFFSET", ColumnSource::Offset),
        ("HEADERS", ColumnSource::Headers),
    ];
    for (word, source) in plain {
        if cursor.take_word(word) {
            return Ok(source);
        }
    }
    if !cursor.take_word("HEADER") {
        return Err(cursor.expected("KEY, TIMESTAMP, PARTITION, OFFSET, HEADERS or HEADER 'name'"));
    }
    let place = cursor.place();
    match cursor.next().token {
        Token::SingleQuotedString(name) => Ok(ColumnSource::Header(name)),
        _ => Err(Error::at(place, "expected the name of a header in quotes")),
    }
}

/// `KEY (column)`.
fn parse_primary_key(cursor: &mut Cursor) -> Result<PrimaryKeyStatement> {
    cursor.expect_word("KEY")?;
    cursor.expect(&Token::LParen)?;
    let (column, span) = cursor.name()?;
    if cursor.is_word(",") {
        let text = "a PRIMARY KEY is one column: the key of the record";
        return Err(Error::at(cursor.place(), text));
    }
    cursor.expect(&Token::RParen)?;
    Ok(PrimaryKeyStatement {
        column,
        place: span.start,
    })
}

fn note_primary_key(
    known: &mut Option<PrimaryKeyStatement>,
    key: PrimaryKeyStatement,
    is_table: bool,
    place: Location,
) -> Result<()> {
    if !is_table || known.is_some() {
        let text = "a table has one PRIMARY KEY, a stream has none: write CREATE TABLE";
        return Err(Error::at(place, text));
    }
    *known = Some(key);
    Ok(())
}

fn parse_watermark(cursor: &mut Cursor) -> Result<WatermarkStatement> {
    cursor.expect_word("FOR")?;
    let (column, span) = cursor.name()?;
    cursor.expect_word("AS")?;
    let expr_place = cursor.place();
    let expr = cursor.part(|p| p.parse_expr())?;
    Ok(WatermarkStatement {
        column,
        place: span.start,
        expr,
        expr_place,
    })
}
