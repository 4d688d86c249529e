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
    List,
    Object,
}

const KINDS: usize = 10;

/// A value that was seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    kind: Kind,
    /// Of a text that is a time: milliseconds since 1970.
    pub(super) time_ms: Option<i64>,
    /// The elements of a list.
    elements: Option<Box<Kinds>>,
}

impl From<Kind> for Seen {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            time_ms: None,
            elements: None,
        }
    }
}

/// How many values of a column are of which kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    counts: [u64; KINDS],
    /// Those of the elements of lists.
    elements: Option<Box<Kinds>>,
}

/// A text of JSON.
pub(super) fn of_text(text: &str) -> Seen {
    let is_date = |t: &str| rfc3339::parse_ms(&format!("{t}T00:00:00Z")).is_some();
    if let Some(ms) = rfc3339::parse_ms(text) {
        Seen {
            time_ms: Some(ms),
            ..Kind::Time.into()
        }
    } else if text.len() == 10 && is_date(text) {
        Kind::Date.into()
    } else {
        Kind::Text.into()
    }
}

/// A whole number.
pub(super) fn of_number(number: i64) -> Seen {
    if TIMES_MS.contains(&number) {
        Kind::IntTime.into()
    } else {
        Kind::Int.into()
    }
}

/// A list of these elements.
pub(super) fn of_list(elements: Kinds) -> Seen {
    Seen {
        elements: Some(Box::new(elements)),
        ..Kind::List.into()
    }
}

/// A field of a line.
pub(super) fn of_field(field: &str) -> Seen {
    if field.is_empty() {
        Kind::Null.into()
    } else if field == "true" || field == "false" {
        Kind::Boolean.into()
    } else if let Ok(number) = field.parse() {
        of_number(number)
    } else if field.bytes().any(|b| b.is_ascii_digit()) && field.parse::<f64>().is_ok() {
        Kind::Float.into()
    } else {
        of_text(field)
    }
}

impl Kinds {
    pub(super) fn add(&mut self, seen: Seen) {
        self.counts[seen.kind as usize] += 1;
        if let Some(more) = seen.elements {
            let elements = self.elements.get_or_insert_default();
            elements.merge(*more);
        }
    }

    fn merge(&mut self, more: Self) {
        let counts = self.counts.iter_mut().zip(more.counts);
        counts.for_each(|(count, more)| *count += more);
        if let Some(more) = more.elements {
            self.elements.get_or_insert_default().merge(*more);
        }
    }

    fn of(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// Of how many values there is a time.
    pub(super) fn times(&self) -> u64 {
        self.of(Kind::Time)
    }

    /// The type that takes the most of the values, with what is ambiguous about it; `None` if there is none that
    /// takes them. A text of JSON takes no number; a field of a line is text in any case (`is_json` is false).
    pub(super) fn data_type(&self, is_json: bool) -> Option<(String, Vec<String>)> {
        let ints = self.of(Kind::Int) + self.of(Kind::IntTime);
        let numbers = ints + self.of(Kind::Float);
        let texts = self.of(Kind::Text) + self.of(Kind::Time) + self.of(Kind::Date);
        let booleans = self.of(Kind::Boolean);
        let (lists, objects) = (self.of(Kind::List), self.of(Kind::Object));
        let nested = lists + objects;
        let all = numbers + texts + booleans + nested;
        if all == 0 {
            let note = "null in all of them: VARCHAR is a guess";
            return Some(("VARCHAR".into(), vec![note.into()]));
        }
        if !is_json
            && [numbers, texts, booleans]
                .iter()
                .filter(|n| **n > 0)
                .count()
                > 1
        {
            let note = mixed(numbers, texts, booleans, 0);
            return Some(("VARCHAR".into(), vec![note]));
        }
        let most = numbers.max(texts).max(booleans).max(lists).max(objects);
        if most == objects {
            return None;
        }
        let mut notes = Vec::new();
        let data_type = if most == lists {
            self.list_type(&mut notes)?
        } else if most == booleans {
            "BOOLEAN".into()
        } else if most == numbers {
            self.number_type(ints, numbers, &mut notes).into()
        } else {
            self.text_type(texts, &mut notes).into()
        };
        if most < all {
            let seen = mixed(numbers, texts, booleans, nested);
            notes.push(format!("{seen}; {} do not fit {data_type}", all - most));
        }
        Some((data_type, notes))
    }

    /// Lists of lists have no type.
    fn list_type(&self, notes: &mut Vec<String>) -> Option<String> {
        let elements = self.elements.as_deref().cloned().unwrap_or_default();
        let (data_type, of_elements) = elements.data_type(true)?;
        if data_type.ends_with("[]") {
            return None;
        }
        notes.extend(of_elements.iter().map(|n| format!("its elements: {n}")));
        Some(format!("{data_type}[]"))
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
