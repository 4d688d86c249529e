//! The members of a JSON object, with what each holds.

use super::kinds::{self, Kind};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Names and kinds of the members, in their order; `None` if the value is no JSON object.
pub(super) fn read(value: &[u8]) -> Option<Vec<(String, Kind)>> {
    serde_json::from_slice::<Members>(value).ok().map(|m| m.0)
}

struct Members(Vec<(String, Kind)>);

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
        while let Some((name, Held(kind))) = map.next_entry()? {
            members.push((name, kind));
        }
        Ok(Members(members))
    }
}

struct Held(Kind);

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Value).map(Held)
    }
}

struct Value;

impl<'de> Visitor<'de> for Value {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Boolean)
    }
    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(kinds::of_number(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        // What is no BIGINT is read as a DOUBLE.
        Ok(i64::try_from(value).map_or(Kind::Float, kinds::of_number))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Float)
    }
    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(kinds::of_text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Kind::Nested)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Kind::Nested)
    }
}
