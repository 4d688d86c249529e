//! JSON objects: members that are columns, the others passed over.

use super::cells::Cells;
use super::decode::Table;
use crate::statement::ColumnSource;
use crate::stream::Column;
use std::borrow::Cow;
use std::fmt;

/// Finds columns by the names of members.
#[derive(Clone)]
pub(super) struct Reader {
    /// Name and place of each column, in the order of the columns.
    names: Vec<(String, usize)>,
}

impl Reader {
    pub(super) fn new(columns: &[Column]) -> Self {
        let values = columns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.source == ColumnSource::Value);
        Self {
            names: values.map(|(at, c)| (c.name.clone(), at)).collect(),
        }
    }

    /// Sets the values of one row.
    pub(super) fn read(&self, value: &[u8], table: &mut Table) -> Result<(), String> {
        let mut fault = None;
        let mut deserializer = serde_json::Deserializer::from_slice(value);
        let object = Object {
            names: &self.names,
            table,
            fault: &mut fault,
        };
        let read = serde::de::DeserializeSeed::deserialize(object, &mut deserializer)
            .and_then(|()| deserializer.end());
        match (fault, read) {
            (Some(fault), _) => Err(fault),
            (None, Ok(())) => Ok(()),
            (None, Err(e)) => Err(format!("the value is no JSON object: {e}")),
        }
    }
}

/// Takes an object into a table.
struct Object<'a> {
    names: &'a [(String, usize)],
    table: &'a mut Table,
    /// What does not fit a column; it is told rather than what serde makes of it.
    fault: &'a mut Option<String>,
}

impl<'de> serde::de::DeserializeSeed<'de> for Object<'_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Members mostly come in the order of the columns, so the search begins behind the last one.
        let mut next = 0;
        while let Some(name) = map.next_key_seed(Name)? {
            let count = self.names.len();
            let found = (0..count)
                .map(|i| (next + i) % count)
                .find(|i| self.names[*i].0 == name);
            let Some(found) = found else {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            };
            next = found + 1;
            let at = self.names[found].1;
            if self.table.is_set(at) {
                *self.fault = Some(format!("member '{name}' is there twice"));
                return Err(serde::de::Error::custom("repeated"));
            }
            let cell = Cell {
                table: self.table,
                at,
            };
            if let Err(fault) = map.next_value_seed(cell)? {
                *self.fault = Some(fault);
                return Err(serde::de::Error::custom("does not fit"));
            }
        }
        Ok(())
    }
}

/// The name of a member, borrowed where it has no escapes.
struct Name;

impl<'de> serde::de::DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Cow<'de, str>, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.into()))
    }
}

/// Takes the value of a member into its column. The inner result says whether it fits.
struct Cell<'a> {
    table: &'a mut Table,
    at: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for Cell<'_> {
    type Value = Result<(), String>;
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Cell<'_> {
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        self.table.set_null(self.at);
        Ok(Ok(()))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.table.set_bool(self.at, value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.table.set_int(self.at, value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => self.table.set_int(self.at, value),
            Err(_) => self.table.set_float(self.at, value as f64),
        })
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(self.table.set_float(self.at, value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(self.table.set_text(self.at, value))
    }
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut wrong = None;
        let Some(list) = self.table.list(self.at) else {
            while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            return Ok(Err(self.table.wrong(self.at, "a list")));
        };
        while let Some(fits) = seq.next_element_seed(Element(&mut list.elements))? {
            wrong = wrong.or(fits.err());
        }
        list.end(true);
        Ok(match wrong {
            None => Ok(()),
            Some(shown) => Err(self.table.wrong(self.at, format!("[{shown}]"))),
        })
    }
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map
            .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
            .is_some()
        {}
        Ok(Err(self.table.wrong(self.at, "an object")))
    }
}

/// Takes an element of a list. The inner result says whether it fits, or shows it.
struct Element<'a>(&'a mut Cells);

impl Element<'_> {
    fn checked<E>(fits: bool, shown: impl ToString) -> Result<Result<(), String>, E> {
        Ok(if fits { Ok(()) } else { Err(shown.to_string()) })
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Element<'_> {
    type Value = Result<(), String>;
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Element<'_> {
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        self.0.push_null();
        Ok(Ok(()))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Self::checked(self.0.set_bool(value), value)
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Self::checked(self.0.set_int(value), value)
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        let fits = match i64::try_from(value) {
            Ok(value) => self.0.set_int(value),
            Err(_) => self.0.set_float(value as f64),
        };
        Self::checked(fits, value)
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Self::checked(self.0.set_float(value), value)
    }
    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Self::checked(self.0.set_text(value), format!("'{value}'"))
    }
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Self::checked(false, "a list")
    }
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map
            .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
            .is_some()
        {}
        Self::checked(false, "an object")
    }
}
