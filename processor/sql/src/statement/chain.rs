//! How long chains of operators may be.
//!
//! The parser bounds how deep a statement nests in parentheses, but reads `a + b + c + ...` in a loop: the tree that
//! comes of it is as deep as the chain is long, and whatever walks it needs stack for every level.

use crate::error::{Error, Result};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Most operators in one expression, those around its parentheses included.
const CHAIN_MAX: usize = 400;

/// Refuses a statement with a chain that is too long.
///
/// # Errors
/// The place of the first operator too many.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    // Operators of each expression that is open, the outermost first.
    let mut open = vec![0_usize];
    let mut sum = 0;
    for token in tokens {
        match &token.token {
            Token::LParen => open.push(0),
            Token::RParen => {
                sum -= open.pop().unwrap_or(0);
                if open.is_empty() {
                    open.push(0);
                }
            }
            Token::Comma => {
                if let Some(last) = open.last_mut() {
                    sum -= std::mem::take(last);
                }
            }
            other if links(other) => {
                if let Some(last) = open.last_mut() {
                    *last += 1;
                }
                sum += 1;
            }
            _ => {}
        }
        if sum > CHAIN_MAX {
            let text =
                format!("more than {CHAIN_MAX} operators in a row: compute it in several steps");
            return Err(Error::at(token.span.start, text));
        }
    }
    Ok(())
}

/// Whether what stands before it becomes a part of what it makes.
fn links(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::IS
                | Keyword::NOTNULL
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::IN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::DIV
                | Keyword::OVERLAPS
                | Keyword::MEMBER
                | Keyword::MATCH
                | Keyword::OPERATOR
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::MINUS
                | Keyword::JOIN
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Period
        | Token::Whitespace(_)
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{TEXT_BYTES_MAX, parse};

    /// Deep trees are walked on the threads of a broker, which have no more stack than this.
    fn on_small_stack(text: String) -> Option<String> {
        let parsing = move || parse(&text).err().map(|e| e.to_string());
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn(parsing).unwrap().join().unwrap()
    }

    fn of_length(begin: &str, link: &str, length: usize) -> String {
        let mut text = String::from(begin);
        while text.len() + link.len() <= length {
            text.push_str(link);
        }
        text
    }

    #[test]
    fn no_chain_is_too_long_for_the_stack() {
        let from = "SELECT 1 FROM t WHERE ";
        for (begin, link) in [
            ("SELECT 1", "+1"),
            ("SELECT 1", " AND 1"),
            ("SELECT 1", "::INT"),
            ("SELECT 1", " IS NULL"),
            ("SELECT 1", "+f(1,1)"),
            ("SELECT a", "[1]"),
            ("SELECT 1", " UNION ALL SELECT 1"),
            ("SELECT 1 FROM t", " JOIN t ON 1"),
            ("SELECT 1", " COLLATE x"),
            ("SELECT 1", " AT TIME ZONE 'x'"),
            (from, "- "),
            (from, "NOT "),
            (from, "("),
        ] {
            for length in [3_000, TEXT_BYTES_MAX] {
                let told = on_small_stack(of_length(begin, link, length));
                assert!(told.is_some() || length < TEXT_BYTES_MAX, "{link}");
            }
        }
        let list = of_length("SELECT 1 FROM t WHERE a IN (-1", ",-1", 100_000) + ")";
        assert_eq!(on_small_stack(list), None);
        let longest = format!("SELECT 1{}", "+1".repeat(CHAIN_MAX));
        assert_eq!(on_small_stack(longest), None);
    }
}
