//! Map: changes the value of every record.

use super::reject;
use super::scalar::not_json;
use crate::context::Context;
use crate::pipeline::invalid;
use crate::processor::{ProcessError, Processor};
use crate::record::Record;
use flowstone_wire::Failure;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A stage that gives every record the value that `change` returns (`None` for a tombstone); time,
/// key and headers stay.
pub fn map(
    change: impl Fn(&Record<'_>) -> Result<Option<Vec<u8>>, ProcessError> + Send + Sync + 'static,
) -> impl Fn() -> Box<dyn Processor> + Send + Sync + 'static {
    let change = Arc::new(change);
    move || {
        let change = Arc::clone(&change);
        Box::new(Map(move |record: &Record<'_>| change(record)))
    }
}

struct Map<F>(F);

impl<F> Processor for Map<F>
where
    F: Fn(&Record<'_>) -> Result<Option<Vec<u8>>, ProcessError> + Send,
{
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let value = (self.0)(record)?;
        ctx.emit(
            record.timestamp,
            record.key,
            value.as_deref(),
            record.headers,
        );
        Ok(())
    }
}

/// Which fields of a JSON object stay, and under which names.
///
/// The values of the fields are passed on byte for byte; the fields are ordered by name. Where a
/// renamed field meets one that has that name already, the renamed one stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMap {
    /// The fields that stay, by the names they come with; empty for all.
    pub keep: Vec<String>,
    /// New names, by the ones they come with.
    pub rename: BTreeMap<String, String>,
}

/// A stage that keeps and renames fields.
///
/// # Errors
/// [`Failure`] if it does nothing, two fields get the same name, or one is renamed that is not kept.
pub fn map_fields(
    fields: FieldMap,
) -> Result<impl Fn() -> Box<dyn Processor> + Send + Sync + 'static, Failure> {
    if fields.keep.is_empty() && fields.rename.is_empty() {
        return Err(invalid("map does nothing: give 'keep' or 'rename'".into()));
    }
    let mut names = BTreeSet::new();
    for (from, to) in &fields.rename {
        if !names.insert(to) {
            let to = to.escape_debug();
            return Err(invalid(format!(
                "map gives two fields the name '{to}': rename one"
            )));
        }
        if !fields.keep.is_empty() && !fields.keep.contains(from) {
            let from = from.escape_debug();
            return Err(invalid(format!(
                "map renames field '{from}' and does not keep it: add it to 'keep'"
            )));
        }
    }
    let keep: BTreeSet<String> = fields.keep.into_iter().collect();
    let rename = fields.rename;
    Ok(map(move |record| {
        changed(record.value, &keep, &rename).map(Some)
    }))
}

fn changed(
    value: Option<&[u8]>,
    keep: &BTreeSet<String>,
    rename: &BTreeMap<String, String>,
) -> Result<Vec<u8>, ProcessError> {
    let bytes = value.ok_or_else(|| reject("the record has no value, a JSON object is needed"))?;
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(not_json)?;
    let mut out: BTreeMap<&str, &RawValue> = BTreeMap::new();
    let is_kept = |name: &String| keep.is_empty() || keep.contains(name);
    for (name, value) in fields.iter().filter(|(name, _)| is_kept(name)) {
        if !rename.contains_key(name) {
            out.insert(name, value);
        }
    }
    for (from, to) in rename {
        if let Some(value) = fields.get(from) {
            out.insert(to, value);
        }
    }
    serde_json::to_vec(&out).map_err(not_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keep: &[&str], rename: &[(&str, &str)], json: &str) -> Result<String, ProcessError> {
        let keep = keep.iter().map(|s| (*s).into()).collect();
        let rename = rename
            .iter()
            .map(|(a, b)| ((*a).into(), (*b).into()))
            .collect();
        changed(Some(json.as_bytes()), &keep, &rename).map(|v| String::from_utf8(v).unwrap())
    }

    #[test]
    fn fields_are_kept_and_renamed_and_values_stay_as_they_are() {
        let json = r#"{"b":1.10,"a":[ 1,2],"c":{"x":123456789012345678901234567890}}"#;
        assert_eq!(
            run(&["a", "b", "zz"], &[], json).unwrap(),
            r#"{"a":[ 1,2],"b":1.10}"#
        );
        assert_eq!(
            run(&[], &[("c", "d"), ("b", "a")], json).unwrap(),
            r#"{"a":1.10,"d":{"x":123456789012345678901234567890}}"#
        );
        assert_eq!(
            run(&["a", "b"], &[("a", "b"), ("b", "a")], json).unwrap(),
            r#"{"a":1.10,"b":[ 1,2]}"#
        );
        assert_eq!(run(&["none"], &[], json).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_object_is_rejected() {
        for bad in ["", "[1]", "{\"a\":}", "{\"a\":\"\u{1}\"}"] {
            assert!(
                matches!(run(&["a"], &[], bad), Err(ProcessError::Reject(_))),
                "{bad}"
            );
        }
        let nothing = changed(None, &BTreeSet::new(), &BTreeMap::new());
        assert!(nothing.unwrap_err().reason().contains("no value"));
    }

    #[test]
    fn mistakes_are_named() {
        let fields = |keep: &[&str], rename: &[(&str, &str)]| FieldMap {
            keep: keep.iter().map(|s| (*s).into()).collect(),
            rename: rename
                .iter()
                .map(|(a, b)| ((*a).into(), (*b).into()))
                .collect(),
        };
        for (want, fields) in [
            ("does nothing", fields(&[], &[])),
            (
                "two fields the name 'x'",
                fields(&[], &[("a", "x"), ("b", "x")]),
            ),
            ("does not keep it", fields(&["b"], &[("a", "x")])),
        ] {
            let failure = map_fields(fields).err().unwrap();
            assert!(failure.message.contains(want), "{failure}");
        }
    }
}
