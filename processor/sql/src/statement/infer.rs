//! `INFER SCHEMA FOR topic`: which columns its records may have.

use super::cursor::Cursor;
use super::options;
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::tokenizer::Location;

/// Records that are looked at where the statement does not say.
const RECORDS_DEFAULT: u64 = 1000;
/// Most records that are looked at.
const RECORDS_MAX: u64 = 100_000;

/// The question which columns a topic may have.
#[derive(Clone, Debug)]
pub struct InferStatement {
    /// The topic.
    pub topic: String,
    /// Where its name stands.
    pub place: Location,
    /// How many of its last records are looked at.
    pub records: u64,
}

pub(super) fn parse(mut cursor: Cursor) -> Result<InferStatement> {
    cursor.expect_word("SCHEMA")?;
    cursor.expect_word("FOR")?;
    let (topic, span) = cursor.name()?;
    flowstone_wire::name::check("topic", &topic).map_err(|f| Error::at(span.start, f.message))?;
    let mut options = options::parse(&mut cursor)?;
    cursor.finish()?;
    let records = options.take_number("records", 1..=RECORDS_MAX as i64)?;
    options.finish("records")?;
    Ok(InferStatement {
        topic,
        place: span.start,
        records: records.map_or(RECORDS_DEFAULT, |n| n as u64),
    })
}
