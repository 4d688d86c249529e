//! The members of a JSON object, with what each holds.

use super::kinds::{self, Kind, Kinds, Seen};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Names and values of the members, in their order; `None` if the value is no JSON object.
pub(super) fn read(value: &[u8]) -> Option<Vec<(String, Seen)>> {
    serde_json::from_slice::<Members>(value).ok().map(|m| m.0)
}

struct Members(Vec<(String, Seen)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some((name, Held(seen))) = map.next_entry()? {
            members.push((name, seen));
        }
        Ok(Members(members))
    }
}

struct Held(Seen);

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Value).map(Held)
    }
}

struct Value;

impl<'de> Visitor<'de> for Value {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Kind::Null.into())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Kind::Boolean.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Seen, E> {
        Ok(kinds::of_number(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Seen, E> {
        // What is no BIGINT is read as a DOUBLE.
        Ok(i64::try_from(value).map_or(Kind::Float.into(), kinds::of_number))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Kind::Float.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Seen, E> {
        Ok(kinds::of_text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seen, A::Error> {
        let mut elements = Kinds::default();
        while let Some(Held(element)) = seq.next_element()? {
            elements.add(element);
        }
        Ok(kinds::of_list(elements))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Kind::Object.into())
    }
}
