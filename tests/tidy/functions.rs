//! Functions fit on one screen.

use crate::source::{Source, indent, word_offsets};

const FUNCTION_LINES_MAX: usize = 70;

/// Production functions that are too long, counted from their `fn` line to their closing brace.
pub(crate) fn length(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.production.lines().map(str::trim_end).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let count = function_lines(&lines[at..]);
        if count > FUNCTION_LINES_MAX {
            let advice = format!(
                "fn {name} has {count} lines, at most {FUNCTION_LINES_MAX} are wanted: give its \
                 steps names of their own"
            );
            found.push(source.finding(at, &advice));
        }
    }
    found
}

/// The name behind the keyword, where this line declares a function.
fn function_name(line: &str) -> Option<&str> {
    let at = *word_offsets(line, "fn").first()?;
    let rest = line[at..].strip_prefix("fn ")?;
    let end = rest.find(|c: char| c != '_' && c != '#' && !c.is_ascii_alphanumeric());
    let name = &rest[..end.unwrap_or(rest.len())];
    (!name.is_empty()).then_some(name)
}

/// How many lines the function takes that starts on the first one. Relies on rustfmt.
fn function_lines(lines: &[&str]) -> usize {
    let start = indent(lines[0]);
    let mut opened = false;
    for (at, line) in lines.iter().enumerate() {
        let here = indent(line) == start;
        let declared = !opened && line.ends_with(';');
        let closed = here
            && (if at == 0 {
                line.ends_with('}')
            } else {
                line.trim().starts_with('}')
            });
        if declared || closed {
            return at + 1;
        }
        opened |= line.ends_with('{');
    }
    lines.len()
}
