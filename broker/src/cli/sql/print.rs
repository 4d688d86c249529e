//! Rows for people, programs and spreadsheets.

use super::super::Failed;
use super::Output;
use flowstone_client::{QueryColumn, QueryKind};
use serde_json::{Map, Value};
use std::io::{self, Write};

/// Widths of a table follow from so many rows.
const MEASURED_ROWS: usize = 1000;
/// A column is not made wider than this for the rows behind its own.
const WIDTH_MAX: usize = 60;

/// Prints rows.
pub(super) struct Printer {
    output: Output,
    kind: QueryKind,
    columns: Vec<String>,
    has_header: bool,
    /// Widths of the columns of a table, once they are known.
    widths: Option<Vec<usize>>,
    waiting: Vec<Vec<String>>,
}

impl Printer {
    pub(super) fn new(output: Output, kind: QueryKind, columns: &[QueryColumn]) -> Self {
        Self {
            output,
            kind,
            columns: columns.iter().map(|c| c.name.clone()).collect(),
            has_header: false,
            widths: None,
            waiting: Vec::new(),
        }
    }

    /// Prints a row, or keeps it until the widths are known.
    pub(super) fn row(&mut self, line: &[u8], out: &mut impl Write) -> Result<(), Failed> {
        if self.output == Output::Json {
            out.write_all(line)?;
            return Ok(out.write_all(b"\n")?);
        }
        let row: Map<String, Value> = serde_json::from_slice(line)
            .map_err(|e| Failed::new(1, format!("the broker sent a row that is no JSON: {e}")))?;
        if self.kind == QueryKind::Statement {
            let mut values = row.values().filter_map(Value::as_str);
            return Ok(values.try_for_each(|v| writeln!(out, "{v}"))?);
        }
        if self.output == Output::Csv && row.contains_key("@removed") {
            let what = "a group is no longer part of the result, which CSV has no way to say: take --output json";
            return Err(Failed::new(1, what));
        }
        let cells = self.cells(&row);
        if self.output == Output::Csv {
            self.csv_header(out)?;
            return Ok(write_csv(&cells, out)?);
        }
        self.waiting.push(cells);
        if self.waiting.len() >= MEASURED_ROWS {
            self.flush(out)?;
        }
        Ok(())
    }

    /// Prints what was kept.
    pub(super) fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self.output {
            Output::Json => Ok(()),
            Output::Csv => self.csv_header(out),
            Output::Table if self.kind == QueryKind::Statement => Ok(()),
            // What follows is only known with the first rows.
            Output::Table if self.kind == QueryKind::Changes && self.waiting.is_empty() => Ok(()),
            Output::Table => self.table(out),
        }
    }

    fn table(&mut self, out: &mut impl Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        let (columns, has_header) = (&self.columns, self.has_header);
        let widths = self.widths.get_or_insert_with(|| widths(columns, &rows));
        if !has_header {
            let names: Vec<String> = columns.iter().map(|c| shown(c)).collect();
            write_padded(&names, widths, out)?;
        }
        self.has_header = true;
        rows.iter()
            .try_for_each(|row| write_padded(row, widths, out))
    }

    fn csv_header(&mut self, out: &mut impl Write) -> io::Result<()> {
        if std::mem::replace(&mut self.has_header, true) {
            return Ok(());
        }
        write_csv(&self.columns, out)
    }

    /// The values by column. A change that takes a row away has none; it says which.
    fn cells(&self, row: &Map<String, Value>) -> Vec<String> {
        let is_table = self.output == Output::Table;
        let text = |value: Option<&Value>| match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if let Some(key) = row.get("@removed") {
            return vec![format!("removed: {}", text(Some(key)))];
        }
        let cells = self.columns.iter().map(|name| text(row.get(name)));
        match is_table {
            true => cells.map(|cell| shown(&cell)).collect(),
            false => cells.collect(),
        }
    }
}

/// A text on one line, without what a terminal would act on.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn widths(columns: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        let cells = cells.map(|cell| cell.chars().count().min(WIDTH_MAX));
        cells.chain([shown(&columns[at]).chars().count()]).max()
    };
    (0..columns.len())
        .map(|at| width(at).unwrap_or(0))
        .collect()
}

fn write_padded(cells: &[String], widths: &[usize], out: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        let missing = width.saturating_sub(cell.chars().count());
        line.extend(std::iter::repeat_n(' ', missing + 2));
    }
    writeln!(out, "{}", line.trim_end())
}

/// One line of RFC 4180, with a line feed.
fn write_csv(cells: &[String], out: &mut impl Write) -> io::Result<()> {
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        if cell.contains(['"', ',', '\n', '\r']) {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            out.write_all(cell.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests;
