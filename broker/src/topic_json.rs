//! A topic as JSON, the same over HTTP and on the command line.

use flowstone_wire::native::Topic;
use serde_json::{Value, json};

/// The topic and its settings.
pub(crate) fn topic_json(topic: &Topic) -> Value {
    let settings = &topic.settings;
    json!({
        "id": topic.id,
        "name": topic.name,
        "partitions": topic.partitions.len(),
        "placement": settings.placement,
        "retention_bytes": settings.retention_bytes,
        "retention_ms": settings.retention_ms,
        "visibility": settings.visibility,
        "compact": settings.compact,
        "tombstone_ms": settings.tombstone_ms,
        "local_retention_bytes": settings.local_retention_bytes,
        "local_retention_ms": settings.local_retention_ms,
    })
}
