//! What people write: pipelines, settings, times; and the JSON that pipelines read.

use super::state::step;
use flowstone::Config;
use flowstone_processor::rfc3339::parse_ms;
use flowstone_processor::{PipelineSpec, Task};
use flowstone_wire::{Offset, PartitionId};

/// A pipeline, as TOML or JSON as it is one or the other; behind a zero byte the value of records
/// that it is to work on.
pub(super) fn spec(data: &[u8]) {
    let end = data.iter().position(|b| *b == 0);
    let (text, value) = data.split_at(end.unwrap_or(data.len()));
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let json = serde_json::from_str::<PipelineSpec>(text).ok();
    let Some(spec) = json.or_else(|| toml::from_str(text).ok()) else {
        return;
    };
    let pipeline = match spec.build() {
        Ok(pipeline) => pipeline,
        Err(failure) => return assert!(!failure.message.is_empty()),
    };
    let written = serde_json::to_string(&spec).expect("a pipeline that can be built has a text");
    let again: PipelineSpec = serde_json::from_str(&written).expect("it was just written");
    assert_eq!(again, spec);
    let mut task = Task::new(&pipeline, &[(PartitionId(1024), Offset(0))]);
    step(&mut task, value.get(1..).unwrap_or_default());
}

/// Settings, and a time.
pub(super) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(ms) = parse_ms(text) {
        // The year 0 to the year 9999, in any zone.
        let day = 86_400_000;
        assert!((-62_167_219_200_000 - day..=253_402_300_800_000 + day).contains(&ms));
        let later = text.replacen(' ', "T", 1).to_ascii_uppercase();
        assert_eq!(parse_ms(&later), Some(ms), "the same in capitals");
    }
    let Ok(config) = toml::from_str::<Config>(text) else {
        return;
    };
    let checked = config.check();
    if let Err(e) = &checked {
        assert!(e.to_string().starts_with("setting "), "{e}");
        return;
    }
    let shard = config.shard();
    assert!(
        shard.flush_us / 1000 == config.log.flush_ms,
        "it is in microseconds"
    );
    assert!(config.workers() > 0);
    let _ = config.node.spin_us.bound_us();
    for pipeline in &config.pipelines {
        let _ = pipeline.build();
    }
}
