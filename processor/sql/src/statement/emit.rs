//! `EMIT`: when a query gives out its results.

use super::cursor::Cursor;
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::tokenizer::Location;

/// When results are given out.
#[derive(Clone, Debug, Default)]
pub enum Emit {
    /// Not said: on window close where there are windows, otherwise every row as it comes.
    #[default]
    Unsaid,
    /// Every change of a result.
    Changes(Location),
    /// Changes of results, at most one of each result in an interval.
    Every {
        /// Where it is said.
        place: Location,
        /// The interval.
        interval: Box<Expr>,
    },
    /// Each window once, when it can no longer change.
    OnWindowClose {
        /// Where it is said.
        place: Location,
        /// How much longer windows stay open, if that is said.
        allow_lateness: Option<Box<Expr>>,
    },
}

pub(super) fn parse(cursor: &mut Cursor) -> Result<Emit> {
    let place = cursor.place();
    if !cursor.take_word("EMIT") {
        return Ok(Emit::Unsaid);
    }
    if cursor.take_word("CHANGES") {
        return Ok(Emit::Changes(place));
    }
    if cursor.take_word("EVERY") {
        let place = cursor.place();
        let interval = Box::new(cursor.part(|p| p.parse_expr())?);
        return Ok(Emit::Every { place, interval });
    }
    let before = cursor.place();
    if !cursor.take_word("ON") {
        return Err(cursor.expected("CHANGES, EVERY or ON WINDOW CLOSE"));
    }
    if !(cursor.take_word("WINDOW") && cursor.take_word("CLOSE")) {
        return Err(Error::at(before, "expected ON WINDOW CLOSE"));
    }
    let allow_lateness = if cursor.take_word("ALLOW") {
        cursor.expect_word("LATENESS")?;
        Some(Box::new(cursor.part(|p| p.parse_expr())?))
    } else {
        None
    };
    Ok(Emit::OnWindowClose {
        place,
        allow_lateness,
    })
}
