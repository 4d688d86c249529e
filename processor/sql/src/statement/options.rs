//! `WITH (name = value, ...)`.

use super::cursor::Cursor;
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

/// Most options of one statement.
const OPTIONS_MAX: usize = 32;

/// Options that were given, each to be taken once; what is left at the end is refused.
#[derive(Clone, Debug, Default)]
pub struct Options {
    given: Vec<Given>,
    place: Option<Location>,
}

#[derive(Clone, Debug)]
struct Given {
    name: String,
    value: String,
    place: Location,
    value_place: Location,
}

pub(super) fn parse(cursor: &mut Cursor) -> Result<Options> {
    let mut options = Options::default();
    let place = cursor.place();
    if !cursor.take_word("WITH") {
        return Ok(options);
    }
    options.place = Some(place);
    cursor.expect(&Token::LParen)?;
    loop {
        let (name, span) = cursor.name()?;
        cursor.expect(&Token::Eq)?;
        let value_place = cursor.place();
        let (Token::SingleQuotedString(value) | Token::Number(value, false)) = cursor.next().token
        else {
            return Err(Error::at(value_place, "expected a 'text' or a number"));
        };
        if options.given.iter().any(|o| o.name == name) {
            return Err(Error::at(
                span.start,
                format!("option '{name}' is given twice"),
            ));
        }
        if options.given.len() == OPTIONS_MAX {
            return Err(Error::at(
                span.start,
                format!("more than {OPTIONS_MAX} options"),
            ));
        }
        options.given.push(Given {
            name,
            value,
            place: span.start,
            value_place,
        });
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen)?;
    Ok(options)
}

impl Options {
    /// Takes the value of an option.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.given.iter().position(|o| o.name == name)?;
        Some(self.given.remove(at).value)
    }

    /// Takes the value of an option, and where it stands.
    pub fn take_placed(&mut self, name: &str) -> Option<(String, Location)> {
        let at = self.given.iter().position(|o| o.name == name)?;
        let given = self.given.remove(at);
        Some((given.value, given.value_place))
    }

    /// Takes an option that is a number within a range.
    ///
    /// # Errors
    /// A value that is none.
    pub fn take_number(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>> {
        let Some(at) = self.given.iter().position(|o| o.name == name) else {
            return Ok(None);
        };
        let Given {
            value, value_place, ..
        } = self.given.remove(at);
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (from, to) = range.into_inner();
                let text = format!(
                    "option '{name}' is '{value}': give a whole number from {from} to {to}"
                );
                Err(Error::at(value_place, text))
            }
        }
    }

    /// Takes an option that is one of some words; gives the index of the word.
    ///
    /// # Errors
    /// A value that is none of them.
    pub fn take_choice(&mut self, name: &str, words: &[&str]) -> Result<Option<usize>> {
        let Some(at) = self.given.iter().position(|o| o.name == name) else {
            return Ok(None);
        };
        let Given {
            value, value_place, ..
        } = self.given.remove(at);
        let found = words.iter().position(|w| *w == value);
        found.map(Some).ok_or_else(|| {
            let text = format!(
                "option '{name}' is '{value}': give one of {}",
                words.join(", ")
            );
            Error::at(value_place, text)
        })
    }

    /// Every option must have been taken.
    ///
    /// # Errors
    /// The first one that was not.
    pub fn finish(&self, known: &str) -> Result<()> {
        match self.given.first() {
            None => Ok(()),
            Some(o) => {
                let text = format!("there is no option '{}' here; there are {known}", o.name);
                Err(Error::at(o.place, text))
            }
        }
    }
}
