//! What a task gives out, for who asked.

use crate::counters::Counters;
use flowstone_processor::{Output, SinkRef};

/// Counts what was given out. Says whether it is a row.
pub(crate) fn count(output: &Output<'_>, counters: &Counters) -> bool {
    if output.sink == SinkRef::DLQ {
        let told = |name| output.header(name).map(String::from_utf8_lossy);
        counters.add_unreadable(|| {
            let [partition, offset, reason] = ["x-dlq-partition", "x-dlq-offset", "x-dlq-reason"]
                .map(|name| told(name).unwrap_or_default());
            format!("offset {offset} of partition {partition}: {reason}")
        });
        return false;
    }
    if output.sink == SinkRef::LATE {
        return false;
    }
    counters.add_rows(1);
    true
}

/// A row as text. What says that a group has gone names its key.
pub(crate) fn text(output: &Output<'_>) -> String {
    match output.value {
        Some(value) => String::from_utf8_lossy(value).into_owned(),
        None => {
            let key = output.key.map(String::from_utf8_lossy);
            serde_json::json!({ "@removed": key }).to_string()
        }
    }
}
