//! Key by: gives every record another key.
//!
//! Equal keys meet in one place only behind a topic: what a stage behind this one keeps by key is
//! per shard. To group over all shards write to a topic here and group in a second pipeline.

use super::reject;
use super::scalar::{Scalar, field};
use crate::context::Context;
use crate::processor::{ProcessError, Processor};
use crate::record::Record;
use std::sync::Arc;

/// A stage that gives every record the key that `key` returns; time, value and headers stay.
pub fn key_by(
    key: impl Fn(&Record<'_>) -> Result<Option<Vec<u8>>, ProcessError> + Send + Sync + 'static,
) -> impl Fn() -> Box<dyn Processor> + Send + Sync + 'static {
    let key = Arc::new(key);
    move || {
        let key = Arc::clone(&key);
        Box::new(KeyBy(move |record: &Record<'_>| key(record)))
    }
}

struct KeyBy<F>(F);

impl<F> Processor for KeyBy<F>
where
    F: Fn(&Record<'_>) -> Result<Option<Vec<u8>>, ProcessError> + Send,
{
    fn process(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let key = (self.0)(record)?;
        ctx.emit(
            record.timestamp,
            key.as_deref(),
            record.value,
            record.headers,
        );
        Ok(())
    }
}

/// A stage that takes the key from a field of a JSON object: the text itself, or the number or truth
/// value as text. A record where it is missing, null, an array or an object is rejected.
pub fn key_by_field(field_name: &str) -> impl Fn() -> Box<dyn Processor> + Send + Sync + 'static {
    let name = field_name.to_owned();
    key_by(move |record| key_of(record.value, &name).map(Some))
}

fn key_of(value: Option<&[u8]>, name: &str) -> Result<Vec<u8>, ProcessError> {
    Ok(match field(value, name)? {
        Scalar::Text(text) => text.into_owned().into_bytes(),
        Scalar::Int(n) => n.to_string().into_bytes(),
        Scalar::Float(n) => n.to_string().into_bytes(),
        Scalar::Bool(b) => b.to_string().into_bytes(),
        Scalar::Missing => return Err(reject(format!("field '{name}' is missing or null"))),
        Scalar::Container => {
            return Err(reject(format!(
                "field '{name}' is an array or object, not a key"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_text_of_the_field() {
        for (json, key) in [
            (r#"{"k":"a b"}"#, "a b"),
            (r#"{"k":7}"#, "7"),
            (r#"{"k":-1.5e1}"#, "-15"),
            (r#"{"k":false}"#, "false"),
            (r#"{"k":""}"#, ""),
        ] {
            assert_eq!(key_of(Some(json.as_bytes()), "k").unwrap(), key.as_bytes());
        }
    }

    #[test]
    fn what_is_no_key_is_rejected() {
        for (json, why) in [
            ("{}", "missing"),
            (r#"{"k":null}"#, "missing"),
            (r#"{"k":[1]}"#, "array"),
            ("x", "not a valid JSON"),
        ] {
            let error = key_of(Some(json.as_bytes()), "k").unwrap_err();
            assert!(error.reason().contains(why), "{error}");
        }
    }
}
