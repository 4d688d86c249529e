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
    let mut open = vec![Level::default()];
    let mut sum = 0;
    for token in tokens {
        let Some(level) = open.last_mut() else {
            break;
        };
        match kind(&token.token) {
            Kind::Link => {
                level.operators += 1;
                sum += 1;
            }
            Kind::Relation => {
                level.relations += 1;
                sum += 1;
            }
            Kind::End => sum -= std::mem::take(&mut level.operators),
            Kind::Open(by) => {
                // A subscript is an operator, too.
                let is_subscript = by == Closes::Bracket;
                level.operators += usize::from(is_subscript);
                sum += usize::from(is_subscript);
                open.push(Level {
                    closes: Some(by),
                    ..Level::default()
                });
            }
            Kind::Close(by) if level.closes == Some(by) => {
                sum -= level.operators + level.relations;
                open.pop();
            }
            Kind::Close(_) | Kind::Other => {}
        }
        if sum > CHAIN_MAX {
            let text =
                format!("more than {CHAIN_MAX} operators in a row: compute it in several steps");
            return Err(Error::at(token.span.start, text));
        }
    }
    Ok(())
}

/// What is counted between an opening token and its closing one.
#[derive(Default)]
struct Level {
    /// Of the expression that is open.
    operators: usize,
    /// Joins and set operations, which go on behind commas.
    relations: usize,
    closes: Option<Closes>,
}

/// What ends a level.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closes {
    Paren,
    Bracket,
    Brace,
    Case,
}

/// What a token is to the tree that is made of it.
enum Kind {
    /// What stands before it becomes a part of what it makes.
    Link,
    /// The same, of relations.
    Relation,
    /// The expression before it is over.
    End,
    Open(Closes),
    Close(Closes),
    Other,
}

fn kind(token: &Token) -> Kind {
    match token {
        Token::LParen => Kind::Open(Closes::Paren),
        Token::RParen => Kind::Close(Closes::Paren),
        Token::LBracket => Kind::Open(Closes::Bracket),
        Token::RBracket => Kind::Close(Closes::Bracket),
        Token::LBrace => Kind::Open(Closes::Brace),
        Token::RBrace => Kind::Close(Closes::Brace),
        Token::Comma => Kind::End,
        Token::Word(word) => of_keyword(word.keyword),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Period
        | Token::Whitespace(_)
        | Token::SemiColon
        | Token::EOF => Kind::Other,
        _ => Kind::Link,
    }
}

fn of_keyword(keyword: Keyword) -> Kind {
    match keyword {
        Keyword::CASE => Kind::Open(Closes::Case),
        Keyword::END => Kind::Close(Closes::Case),
        Keyword::WHEN
        | Keyword::THEN
        | Keyword::ELSE
        | Keyword::SELECT
        | Keyword::WHERE
        | Keyword::HAVING
        | Keyword::ON => Kind::End,
        Keyword::UNION
        | Keyword::EXCEPT
        | Keyword::INTERSECT
        | Keyword::MINUS
        | Keyword::JOIN
        | Keyword::PIVOT
        | Keyword::UNPIVOT
        | Keyword::MATCH_RECOGNIZE => Kind::Relation,
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
        | Keyword::OPERATOR => Kind::Link,
        _ => Kind::Other,
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
            ("SELECT 1,1", " UNION SELECT 1,1"),
            ("SELECT 1", "+[1,1]"),
            ("SELECT 1", "+CASE WHEN 1 THEN 1 ELSE 1 END"),
            ("SELECT 1 FROM t", " UNPIVOT(a FOR b IN(c))"),
            ("SELECT a", "[1,1]"),
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
        let branches = format!(
            "SELECT CASE {} END",
            "WHEN a >= 1 AND a < 2 THEN 3 ".repeat(1_000)
        );
        assert_eq!(on_small_stack(branches), None);
        let longest = format!("SELECT 1{}", "+1".repeat(CHAIN_MAX));
        assert_eq!(on_small_stack(longest), None);
    }
}
