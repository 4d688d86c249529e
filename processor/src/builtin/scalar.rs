//! One field of a JSON object, read without building the rest of it.

use super::reject;
use crate::processor::ProcessError;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// A JSON value that is not a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// The field is not there, or is null.
    Missing,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Cow<'a, str>),
    /// An array or an object.
    Container,
}

impl Scalar<'_> {
    /// Numbers with numbers, exactly where both are integers; texts with texts by their bytes; truth
    /// values with truth values. Everything else cannot be compared.
    pub(crate) fn compare(&self, other: &Scalar<'_>) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Bool(a), Scalar::Bool(b)) => Some(a.cmp(b)),
            (Scalar::Int(a), Scalar::Int(b)) => Some(a.cmp(b)),
            (Scalar::Text(a), Scalar::Text(b)) => Some(a.cmp(b)),
            (a, b) => a.number()?.partial_cmp(&b.number()?),
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Scalar::Int(n) => Some(*n as f64),
            Scalar::Float(n) => Some(*n),
            _ => None,
        }
    }
}

/// The field `name` of the JSON object in `value`.
///
/// # Errors
/// [`ProcessError::Reject`] if there is no value, or it is not a JSON object.
pub(crate) fn field<'a>(value: Option<&'a [u8]>, name: &str) -> Result<Scalar<'a>, ProcessError> {
    let bytes = value.ok_or_else(|| reject("the record has no value, a JSON object is needed"))?;
    let mut de = serde_json::Deserializer::from_slice(bytes);
    de.deserialize_map(FieldOf(name))
        .and_then(|scalar| de.end().map(|()| scalar))
        .map_err(not_json)
}

/// The field `name` as a number.
///
/// # Errors
/// As [`field`], and if the field is missing or not a number.
pub(crate) fn number_field(value: Option<&[u8]>, name: &str) -> Result<f64, ProcessError> {
    field(value, name)?
        .number()
        .ok_or_else(|| reject(format!("field '{name}' is missing or not a number")))
}

pub(crate) fn not_json(error: serde_json::Error) -> ProcessError {
    reject(format!("the value is not a valid JSON object: {error}"))
}

struct FieldOf<'n>(&'n str);

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        let mut found = Scalar::Missing;
        while let Some(is_it) = map.next_key_seed(NameIs(self.0))? {
            if is_it {
                found = map.next_value_seed(AnyScalar)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether the name of a field is this one.
struct NameIs<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for NameIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<bool, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

struct AnyScalar;

impl<'de> DeserializeSeed<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Scalar<'de>, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Missing)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Int(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Int(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Container)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get<'a>(json: &'a str, name: &str) -> Scalar<'a> {
        field(Some(json.as_bytes()), name).unwrap()
    }

    #[test]
    fn every_kind_of_value() {
        let json = r#"{"n":-1,"u":18446744073709551615,"f":1.5e3,"t":"x","e":"a\nb","b":true,
            "z":null,"a":[1,{"n":2}],"o":{"n":3},"n2":{"n":4}, "\u0064":5}"#;
        assert_eq!(get(json, "n"), Scalar::Int(-1));
        assert_eq!(get(json, "u"), Scalar::Int(u64::MAX.into()));
        assert_eq!(get(json, "f"), Scalar::Float(1500.0));
        assert_eq!(get(json, "t"), Scalar::Text("x".into()));
        assert_eq!(get(json, "e"), Scalar::Text("a\nb".into()));
        assert_eq!(get(json, "b"), Scalar::Bool(true));
        assert_eq!(get(json, "z"), Scalar::Missing);
        assert_eq!(get(json, "none"), Scalar::Missing);
        assert_eq!(get(json, "a"), Scalar::Container);
        assert_eq!(get(json, "o"), Scalar::Container);
        assert_eq!(get(json, "d"), Scalar::Int(5));
        assert_eq!(get(r#"{"n":1,"n":2}"#, "n"), Scalar::Int(2));
    }

    #[test]
    fn what_is_no_object_is_rejected_with_the_reason() {
        for bad in [
            "",
            "1",
            "[]",
            "null",
            "{",
            "{}x",
            r#"{"n":1e999}"#,
            "\u{0}",
            r#"{"n":nan}"#,
        ] {
            let error = field(Some(bad.as_bytes()), "n").unwrap_err();
            assert!(
                error.reason().contains("not a valid JSON object"),
                "{error}"
            );
        }
        assert!(field(None, "n").unwrap_err().reason().contains("no value"));
        let deep = format!("{{\"n\":{}", "[".repeat(200_000));
        assert!(field(Some(deep.as_bytes()), "n").is_err());
        assert!(field(Some(deep.as_bytes()), "m").is_err());
        assert!(number_field(Some(br#"{"n":"1"}"#), "n").is_err());
    }

    #[test]
    fn large_integers_are_compared_exactly() {
        let (a, b) = (
            Scalar::Int(i128::from(u64::MAX)),
            Scalar::Int(i128::from(u64::MAX) - 1),
        );
        assert_eq!(a.compare(&b), Some(Ordering::Greater));
        assert_eq!(
            Scalar::Int(2).compare(&Scalar::Float(2.5)),
            Some(Ordering::Less)
        );
        assert_eq!(Scalar::Int(2).compare(&Scalar::Text("2".into())), None);
        assert_eq!(Scalar::Missing.compare(&Scalar::Missing), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_rejected(
            bytes in prop::collection::vec(prop::sample::select(&b"{}[]\":,n1-.eE \\u\xff\0"[..]), 0..40)
        ) {
            let ours = field(Some(&bytes), "n").is_ok();
            if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&bytes) {
                prop_assert_eq!(ours, value.is_object());
            }
        }
    }
}
