//! Which columns records may have: a look at some of them, and a `CREATE STREAM` that reads them.
//!
//! ```text
//! mostly JSON objects       --> json: a column for each member
//! else lines cut into as many fields each --> csv: c1 to cN
//! else                      --> raw: the value as it is
//! ```
//!
//! What was ambiguous is said in comments before the statement.

mod kinds;
mod members;
mod order;

use crate::format::csv;
use kinds::{Kinds, Seen};
use order::Order;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Most members that become columns.
const COLUMNS_MAX: usize = 256;
/// What may stand between fields, the likeliest first.
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];
/// Lines that are kept to see how they are cut; more say nothing new.
const LINES_MAX: usize = 1000;

/// What was seen of a topic's records.
#[derive(Debug, Default)]
pub struct Samples {
    records: u64,
    without_value: u64,
    objects: u64,
    not_text: u64,
    /// Members, in the order in which they were first seen.
    members: Vec<(String, Column)>,
    places: BTreeMap<String, usize>,
    /// There were more members than columns may be.
    has_more: bool,
    /// With their partitions.
    lines: Vec<(u32, String)>,
}

/// What was seen of a column.
#[derive(Clone, Debug, Default)]
struct Column {
    kinds: Kinds,
    order: Order,
}

impl Column {
    fn add(&mut self, partition: u32, seen: Seen) {
        if let Some(ms) = seen.time_ms {
            self.order.add(partition, ms);
        }
        self.kinds.add(seen);
    }
}

impl Samples {
    /// Takes the value of a record in; those of a partition come in their order.
    pub fn add(&mut self, partition: u32, value: Option<&[u8]>) {
        self.records += 1;
        let Some(value) = value else {
            self.without_value += 1;
            return;
        };
        if let Some(members) = members::read(value) {
            self.objects += 1;
            for (name, seen) in members {
                let Some(at) = self.place(name) else {
                    self.has_more = true;
                    continue;
                };
                self.members[at].1.add(partition, seen);
            }
            return;
        }
        match std::str::from_utf8(value) {
            Ok(text) if self.lines.len() < LINES_MAX => self.lines.push((partition, text.into())),
            Ok(_) => {}
            Err(_) => self.not_text += 1,
        }
    }

    fn place(&mut self, name: String) -> Option<usize> {
        if let Some(at) = self.places.get(&name) {
            return Some(*at);
        }
        if self.members.len() == COLUMNS_MAX || name.is_empty() {
            return None;
        }
        self.places.insert(name.clone(), self.members.len());
        self.members.push((name, Column::default()));
        Some(self.members.len() - 1)
    }

    /// A `CREATE STREAM` for the topic, with what is to be known about it in comments before.
    pub fn statement(&self, topic: &str) -> String {
        let mut text = Text::new(topic);
        let what = match self.records {
            0 => "The topic has no records: this is a guess.".into(),
            1 => "1 record was looked at.".into(),
            n => format!("The last {n} records were looked at."),
        };
        text.note(&what);
        if self.without_value > 0 {
            text.note(&format!("{} have no value.", self.without_value));
        }
        let values = self.records - self.without_value;
        if self.objects * 2 > values {
            return self.json(text, values);
        }
        match self.cut() {
            Some((delimiter, fields)) if self.not_text == 0 => self.csv(text, delimiter, fields),
            _ => self.raw(text),
        }
    }

    fn json(&self, mut text: Text, values: u64) -> String {
        if values > self.objects {
            let others = values - self.objects;
            text.note(&format!(
                "{others} are no JSON objects: they cannot be read."
            ));
        }
        for (name, column) in &self.members {
            match column.kinds.data_type(true) {
                Some((data_type, notes)) => text.column(name, &data_type, &notes),
                None => text.note(&format!(
                    "{} holds objects, or lists of them: there is no type for them.",
                    quoted(name)
                )),
            }
        }
        let columns = self
            .members
            .iter()
            .map(|(name, column)| (&name[..], column));
        text.watermark(columns, self.objects);
        if self.has_more {
            let note = format!("There are more than {COLUMNS_MAX} members, or one without a name.");
            text.note(&note);
        }
        if text.columns.is_empty() {
            // A stream has columns; that of the key is always there.
            text.columns.push("\"key\" VARCHAR FROM KEY".into());
        }
        text.finish("format = 'json'")
    }

    /// What stands between the fields of the lines, and how many there are: the most that nearly all
    /// lines agree on.
    fn cut(&self) -> Option<(char, usize)> {
        let counted = DELIMITERS.iter().filter_map(|delimiter| {
            let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
            for (_, line) in &self.lines {
                let fields = fields(line, *delimiter).map_or(0, |f| f.len());
                *counts.entry(fields).or_default() += 1;
            }
            let (fields, lines) = counts.into_iter().max_by_key(|(_, lines)| *lines)?;
            let agree = (2..=COLUMNS_MAX).contains(&fields) && lines * 10 >= self.lines.len() * 9;
            agree.then_some((*delimiter, fields, lines))
        });
        let best = counted.max_by_key(|(_, fields, lines)| (*lines, *fields));
        best.map(|(delimiter, fields, _)| (delimiter, fields))
    }

    fn csv(&self, mut text: Text, delimiter: char, count: usize) -> String {
        let mut columns = vec![Column::default(); count];
        let mut others = self.objects;
        for (partition, line) in &self.lines {
            match fields(line, delimiter) {
                Some(fields) if fields.len() == count => {
                    for (column, field) in columns.iter_mut().zip(fields) {
                        column.add(*partition, kinds::of_field(&field));
                    }
                }
                _ => others += 1,
            }
        }
        if others > 0 {
            text.note(&format!(
                "{others} have not {count} fields: they cannot be read."
            ));
        }
        text.note("The fields have no names: give them some.");
        let names: Vec<String> = (1..=columns.len()).map(|n| format!("c{n}")).collect();
        for (name, column) in names.iter().zip(&columns) {
            let (data_type, notes) = column.kinds.data_type(false).unwrap_or_default();
            text.column(name, &data_type, &notes);
        }
        let read = self.lines.len() as u64 + self.objects - others;
        text.watermark(names.iter().map(String::as_str).zip(&columns), read);
        match delimiter {
            ',' => text.finish("format = 'csv'"),
            other => text.finish(&format!("format = 'csv', delimiter = '{other}'")),
        }
    }

    fn raw(&self, mut text: Text) -> String {
        let data_type = if self.not_text > 0 {
            "VARBINARY"
        } else {
            "VARCHAR"
        };
        if self.records > self.without_value {
            text.note("The values are neither JSON objects nor lines with as many fields each.");
        }
        text.column("value", data_type, &[]);
        text.finish("format = 'raw'")
    }
}

/// The fields of a line.
fn fields(text: &str, delimiter: char) -> Option<Vec<String>> {
    let mut rest = Some(csv::line(text));
    let mut fields = Vec::new();
    while let Some(line) = rest {
        let (field, _, behind) = csv::field(line, delimiter).ok()?;
        fields.push(field.into_owned());
        rest = behind;
    }
    Some(fields)
}

/// A statement under construction.
struct Text {
    topic: String,
    notes: Vec<String>,
    columns: Vec<String>,
    watermark: Option<String>,
}

impl Text {
    fn new(topic: &str) -> Self {
        Self {
            topic: topic.into(),
            notes: Vec::new(),
            columns: Vec::new(),
            watermark: None,
        }
    }

    fn note(&mut self, note: &str) {
        self.notes.push(note.into());
    }

    fn column(&mut self, name: &str, data_type: &str, notes: &[String]) {
        for note in notes {
            self.notes.push(format!("{}: {note}", quoted(name)));
        }
        self.columns
            .push(format!("{} {data_type}", identifier(name)));
    }

    /// The first column that has a time in each of so many records is the event time.
    fn watermark<'c>(
        &mut self,
        columns: impl Iterator<Item = (&'c str, &'c Column)>,
        records: u64,
    ) {
        let timed = columns.filter(|(_, column)| records > 0 && column.kinds.times() == records);
        let mut found = timed.filter_map(|(name, column)| {
            let (watermark, note) = column.order.watermark(&identifier(name))?;
            Some((watermark, format!("{}: {note}.", quoted(name))))
        });
        if let Some((watermark, note)) = found.next() {
            self.notes.push(note);
            self.watermark = Some(watermark);
        }
    }

    fn finish(self, options: &str) -> String {
        let mut text = String::new();
        for note in &self.notes {
            // Writing to a text does not fail.
            let _ = writeln!(text, "-- {note}");
        }
        let name = identifier(&self.topic);
        let lines: Vec<String> = self.columns.into_iter().chain(self.watermark).collect();
        let columns = lines.join(",\n  ");
        let _ = write!(
            text,
            "CREATE STREAM {name} (\n  {columns})\n  WITH (topic = '{}', {options});",
            self.topic
        );
        text
    }
}

/// A name in a comment: on one line, whatever is in it.
fn quoted(name: &str) -> String {
    let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    format!("'{shown}'")
}

/// A name in a statement: in double quotes where it would not be the same without.
fn identifier(name: &str) -> String {
    let plain = name.bytes().enumerate().all(|(at, b)| match b {
        b'a'..=b'z' | b'_' => true,
        b'0'..=b'9' => at > 0,
        _ => false,
    });
    let word = name.to_uppercase();
    if plain && !RESERVED.contains(&&word[..]) {
        name.into()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Words that a query, or a statement of ours, takes for something else.
const RESERVED: &[&str] = &[
    "ALL",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CREATE",
    "CROSS",
    "DATE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "EMIT",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXTRACT",
    "FALSE",
    "FETCH",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NATURAL",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "POSITION",
    "QUALIFY",
    "RIGHT",
    "SELECT",
    "SET",
    "STRUCT",
    "SUBSTRING",
    "TABLE",
    "THEN",
    "TIME",
    "TIMESTAMP",
    "TO",
    "TRIM",
    "TRUE",
    "UNION",
    "USER",
    "USING",
    "VALUES",
    "WATERMARK",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];
