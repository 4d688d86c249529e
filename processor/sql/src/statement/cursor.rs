//! A place in the tokens of one statement.

use super::dialect::Flowstone;
use crate::error::{Error, Result};
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

/// How deep a statement may nest.
const NESTING_MAX: usize = 64;

pub(super) struct Cursor {
    parser: Parser<'static>,
    tokens: Vec<TokenWithSpan>,
    end: Location,
}

impl Cursor {
    /// Tokens without whitespace.
    pub(super) fn new(tokens: Vec<TokenWithSpan>) -> Self {
        let end = tokens.last().map_or(super::START, |t| t.span.end);
        let parser = Parser::new(&Flowstone)
            .with_recursion_limit(NESTING_MAX)
            .with_tokens_with_locations(tokens.clone());
        Self {
            parser,
            tokens,
            end,
        }
    }

    /// Where the next token begins.
    pub(super) fn place(&self) -> Location {
        match self.parser.peek_token_ref() {
            t if t.token == Token::EOF => self.end,
            t => t.span.start,
        }
    }

    /// Takes the next token if it is this word, in any case, without quotes.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = is_word(&self.parser.peek_token_ref().token, word);
        if found {
            self.parser.next_token();
        }
        found
    }

    /// Whether the next token reads like this, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        let token = &self.parser.peek_token_ref().token;
        token.to_string().eq_ignore_ascii_case(word)
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) {
            return Ok(());
        }
        Err(self.expected(word))
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<()> {
        if self.take(token) {
            return Ok(());
        }
        Err(self.expected(&token.to_string()))
    }

    pub(super) fn next(&mut self) -> TokenWithSpan {
        self.parser.next_token()
    }

    /// A name; what is not in quotes counts in lower case, as everywhere in SQL.
    pub(super) fn name(&mut self) -> Result<(String, Span)> {
        let token = self.parser.peek_token();
        let Token::Word(word) = token.token else {
            return Err(self.expected("a name"));
        };
        self.parser.next_token();
        let name = match word.quote_style {
            Some(_) => word.value,
            None => word.value.to_lowercase(),
        };
        Ok((name, token.span))
    }

    /// Lets sqlparser read a part.
    pub(super) fn part<T>(
        &mut self,
        read: impl FnOnce(&mut Parser<'static>) -> std::result::Result<T, ParserError>,
    ) -> Result<T> {
        let start = self.place();
        read(&mut self.parser).map_err(|error| match error {
            ParserError::ParserError(text) => match Error::parsing(&text, self.end) {
                // "found: EOF" has no place of its own.
                e if text.contains("found: EOF") => Error::at(self.end, e.message),
                e => e,
            },
            ParserError::TokenizerError(text) => Error::parsing(&text, start),
            ParserError::RecursionLimitExceeded => {
                let text = format!("nested deeper than {NESTING_MAX} levels: split the statement");
                Error::at(start, text)
            }
        })
    }

    /// The tokens from here up to `EMIT` outside of parentheses, or to the end; goes on behind them.
    pub(super) fn query_part(&mut self) -> Cursor {
        let mut depth = 0_usize;
        let mut part = Vec::new();
        loop {
            let next = self.parser.peek_token();
            match &next.token {
                Token::EOF => break,
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                token if depth == 0 && is_word(token, "EMIT") => break,
                _ => {}
            }
            self.parser.next_token();
            part.push(next);
        }
        let mut cursor = Cursor::new(part);
        if cursor.tokens.is_empty() {
            cursor.end = self.place();
        }
        cursor
    }

    pub(super) fn expected(&self, what: &str) -> Error {
        let found = match &self.parser.peek_token_ref().token {
            Token::EOF => "the end".to_string(),
            token => format!("'{token}'"),
        };
        Error::at(self.place(), format!("expected {what}, found {found}"))
    }

    /// Nothing may stand here any more.
    pub(super) fn finish(&self) -> Result<()> {
        match self.parser.peek_token_ref().token {
            Token::EOF => Ok(()),
            _ => Err(self.expected("the end of the statement")),
        }
    }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// The name that an identifier stands for.
pub fn name_of(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
