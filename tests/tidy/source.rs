//! The source files of the project, and views of them without comments, literals and tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One `.rs` file. All views have the same lines and columns as the text.
pub(crate) struct Source {
    /// From the root of the project, with `/` between the parts.
    pub(crate) path: String,
    /// As it is on disk.
    pub(crate) text: String,
    /// Comments and literals are blank.
    pub(crate) code: String,
    /// Literals are blank, comments are not.
    pub(crate) prose: String,
    /// For each line whether only tests compile it.
    pub(crate) for_tests: Vec<bool>,
    /// Like `code`; tests, benches and examples are blank too.
    pub(crate) production: String,
}

impl Source {
    /// Makes the views of a file.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text, Blank::CommentsAndLiterals);
        let for_tests = if is_test(path) || code.contains("#![cfg(test)]") {
            vec![true; code.lines().count()]
        } else {
            lines_for_tests(&code)
        };
        let mut production = String::with_capacity(code.len());
        for (line, for_tests) in code.lines().zip(&for_tests) {
            if !for_tests && !is_beside(path) {
                production.push_str(line);
            }
            production.push('\n');
        }
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            prose: blank(text, Blank::Literals),
            code,
            for_tests,
            production,
        }
    }

    /// The last part of the path, without `.rs`.
    pub(crate) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.strip_suffix(".rs").unwrap_or(name)
    }

    /// A finding at a line of this file (counted from 0), with what to do about it.
    pub(crate) fn finding(&self, line: usize, advice: &str) -> String {
        format!("{}:{}: {advice}", self.path, line + 1)
    }
}

/// Whether the whole file is there for tests.
fn is_test(path: &str) -> bool {
    let mut parts = path.split('/').rev();
    parts.next() == Some("tests.rs") || parts.any(|part| part == "tests")
}

/// Whether the file is neither part of the product nor a test of it.
fn is_beside(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "benches" || part == "examples")
}

/// The root of the project: this crate lives in `tests`.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `.rs` file of the project, sorted by path.
pub(crate) fn all() -> &'static [Source] {
    static ALL: OnceLock<Vec<Source>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut found = Vec::new();
        collect(&root(), "", &mut found);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    })
}

fn collect(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') || name == "target" {
            continue;
        }
        let relative = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{relative}/"), found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{relative}: {e}"));
            found.push(Source::new(&relative, &text));
        }
    }
}

/// The lines (counted from 0) on which `word` stands as a whole identifier or keyword.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    word_offsets(code, word)
        .into_iter()
        .map(|at| line_of(code, at))
        .collect()
}

/// Where `word` stands as a whole identifier or keyword.
pub(crate) fn word_offsets(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let inside = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(|b| is_word(*b));
    let whole = |at: &usize| !inside(at.checked_sub(1)) && !inside(Some(at + word.len()));
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(whole)
        .collect()
}

/// The line (counted from 0) of a position.
pub(crate) fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count()
}

/// Leading spaces of a line.
pub(crate) fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blank {
    Literals,
    CommentsAndLiterals,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Code,
    Comment,
    Literal,
}

/// `text` with spaces in place of comments or literals.
fn blank(text: &str, what: Blank) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (token, len) = next_token(&text[at..]);
        let end = at + len;
        let goes = match token {
            Token::Code => false,
            Token::Comment => what == Blank::CommentsAndLiterals,
            Token::Literal => true,
        };
        if goes {
            out[at..end]
                .iter_mut()
                .filter(|b| **b != b'\n')
                .for_each(|b| *b = b' ');
        }
        at = end;
    }
    String::from_utf8(out).expect("whole tokens were replaced")
}

/// The kind and length of what `text` begins with.
fn next_token(text: &str) -> (Token, usize) {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'/' if text.starts_with("//") => (Token::Comment, text.find('\n').unwrap_or(text.len())),
        b'/' if text.starts_with("/*") => (Token::Comment, block_comment(text)),
        b'"' => (Token::Literal, string(bytes)),
        b'\'' => quote(text),
        first if is_word(first) => {
            let word = bytes.iter().take_while(|b| is_word(**b)).count();
            match (&text[..word], raw_string(&text[word..])) {
                ("r" | "br" | "cr", Some(rest)) => (Token::Literal, word + rest),
                _ => (Token::Code, word),
            }
        }
        _ => (Token::Code, text.chars().next().map_or(1, char::len_utf8)),
    }
}

/// Length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest.starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of a string in double quotes.
fn string(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of what follows the `r` of a raw string, where it is one and no raw identifier.
fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest.bytes().take_while(|b| *b == b'#').count();
    let body = rest[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", &rest[..hashes]);
    let len = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(hashes + 1 + len)
}

/// A character in quotes is a literal; a lifetime is code.
fn quote(text: &str) -> (Token, usize) {
    if text.starts_with("'\\") {
        let close = text.get(3..).and_then(|rest| rest.find('\''));
        return (Token::Literal, close.map_or(text.len(), |at| at + 4));
    }
    let inner = text[1..].chars().next().map_or(0, char::len_utf8);
    if inner > 0 && text[1 + inner..].starts_with('\'') {
        return (Token::Literal, inner + 2);
    }
    (Token::Code, 1)
}

/// For each line whether it belongs to an item under `#[cfg(test)]`. Relies on rustfmt.
fn lines_for_tests(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut for_tests = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        let mut end = at + 1;
        if lines[at].trim() == "#[cfg(test)]" {
            end = item_end(&lines, end, indent(lines[at]));
            for_tests[at..end].fill(true);
        }
        at = end;
    }
    for_tests
}

/// The line after the item that begins at line `at`.
fn item_end(lines: &[&str], mut at: usize, item_indent: usize) -> usize {
    let mut opened = false;
    while at < lines.len() {
        let line = lines[at].trim_end();
        at += 1;
        if line.is_empty() {
            continue;
        }
        let same = indent(line) == item_indent;
        if indent(line) < item_indent {
            return at - 1;
        }
        if (same && line.ends_with(['}', ',', ';'])) || (!opened && line.ends_with(';')) {
            return at;
        }
        opened |= line.ends_with(['{', '(', '[']);
    }
    at
}
