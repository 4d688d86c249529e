//! What the values of a column are, and the type that takes them.

use flowstone_processor::rfc3339;

/// 2000-01-01 and 2100-01-01, milliseconds since 1970: a whole number between them may be a time.
const TIMES_MS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    /// A whole number that may be a time.
    IntTime,
    Float,
    Date,
    Time,
    Text,
    /// A list or an object.
    Nested,
}

const KINDS: usize = 9;

/// How many values of a column are of which kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds([u64; KINDS]);

/// The kind of a text of JSON.
pub(super) fn of_text(text: &str) -> Kind {
    let is_date = |t: &str| rfc3339::parse_ms(&format!("{t}T00:00:00Z")).is_some();
    if rfc3339::parse_ms(text).is_some() {
        Kind::Time
    } else if text.len() == 10 && is_date(text) {
        Kind::Date
    } else {
        Kind::Text
    }
}

/// The kind of a whole number.
pub(super) fn of_number(number: i64) -> Kind {
    if TIMES_MS.contains(&number) {
        Kind::IntTime
    } else {
        Kind::Int
    }
}

/// The kind of a field of a line.
pub(super) fn of_field(field: &str) -> Kind {
    if field.is_empty() {
        Kind::Null
    } else if field == "true" || field == "false" {
        Kind::Boolean
    } else if let Ok(number) = field.parse() {
        of_number(number)
    } else if field.bytes().any(|b| b.is_ascii_digit()) && field.parse::<f64>().is_ok() {
        Kind::Float
    } else {
        of_text(field)
    }
}

impl Kinds {
    pub(super) fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// The type that takes the most of the values, with what is ambiguous about it; `None` if they
    /// are lists or objects. A text of JSON takes no number; a field of a line is text in any case
    /// (`is_json` is false).
    pub(super) fn data_type(&self, is_json: bool) -> Option<(&'static str, Vec<String>)> {
        let ints = self.of(Kind::Int) + self.of(Kind::IntTime);
        let numbers = ints + self.of(Kind::Float);
        let texts = self.of(Kind::Text) + self.of(Kind::Time) + self.of(Kind::Date);
        let booleans = self.of(Kind::Boolean);
        let nested = self.of(Kind::Nested);
        let all = numbers + texts + booleans + nested;
        if all == 0 {
            return Some((
                "VARCHAR",
                vec!["null in all of them: VARCHAR is a guess".into()],
            ));
        }
        if !is_json
            && [numbers, texts, booleans]
                .iter()
                .filter(|n| **n > 0)
                .count()
                > 1
        {
            return Some(("VARCHAR", vec![mixed(numbers, texts, booleans, 0)]));
        }
        let most = numbers.max(texts).max(booleans).max(nested);
        if most == nested {
            return None;
        }
        let mut notes = Vec::new();
        let data_type = if most == booleans {
            "BOOLEAN"
        } else if most == numbers {
            self.number_type(ints, numbers, &mut notes)
        } else {
            self.text_type(texts, &mut notes)
        };
        if most < all {
            let seen = mixed(numbers, texts, booleans, nested);
            notes.push(format!("{seen}; {} do not fit {data_type}", all - most));
        }
        Some((data_type, notes))
    }

    fn number_type(&self, ints: u64, numbers: u64, notes: &mut Vec<String>) -> &'static str {
        if ints < numbers {
            return "DOUBLE";
        }
        if self.of(Kind::IntTime) == numbers {
            let note =
                "whole numbers that may be times, milliseconds since 1970: TIMESTAMP takes them";
            notes.push(note.into());
        }
        "BIGINT"
    }

    fn text_type(&self, texts: u64, notes: &mut Vec<String>) -> &'static str {
        let (times, dates) = (self.of(Kind::Time), self.of(Kind::Date));
        if times == texts {
            return "TIMESTAMP";
        }
        if dates == texts {
            return "DATE";
        }
        if times + dates > 0 {
            notes.push(format!(
                "{times} times, {dates} days, {} other texts",
                texts - times - dates
            ));
        }
        "VARCHAR"
    }
}

fn mixed(numbers: u64, texts: u64, booleans: u64, nested: u64) -> String {
    let parts = [
        (numbers, "numbers"),
        (texts, "texts"),
        (booleans, "booleans"),
        (nested, "lists or objects"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    parts.join(", ")
}
