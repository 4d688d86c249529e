//! Specs in text build pipelines that work, and mistakes are named.

use super::*;
use crate::rig::Rig;
use serde_json::json;

fn parse(spec: serde_json::Value) -> Result<Pipeline, String> {
    let spec: PipelineSpec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
    spec.build().map_err(|failure| failure.message)
}

#[test]
fn a_whole_spec_works() {
    let pipeline = parse(json!({
        "name": "p",
        "source": ["in", "more"],
        "timestamp_field": "time",
        "out_of_order_ms": 5,
        "stages": [
            {"type": "filter", "field": "unit", "op": "eq", "value": "C", "sink": "celsius"},
            {"type": "map", "keep": ["id", "t", "time"], "rename": {"t": "n"}},
            {"type": "key_by", "field": "id"},
            {"type": "zscore", "name": "odd", "field": "n", "samples": 10, "min_samples": 5,
             "threshold": 3.0, "sink": "odd"},
            {"type": "window", "field": "value", "size_ms": 1000, "lateness_ms": 10},
        ],
        "sink": "out",
    }))
    .unwrap();
    assert_eq!(pipeline.sources(), ["in", "more"]);
    let stages: Vec<_> = pipeline.stages().collect();
    assert_eq!(stages, ["filter-1", "map-2", "key_by-3", "odd", "window-5"]);
    assert_eq!(pipeline.sinks()[2..], ["celsius", "odd", "out"]);
    assert_eq!(pipeline.options().out_of_order_ms, 5);

    let mut rig = Rig::new(&pipeline, &[0]);
    for (i, t) in [1, 2, 1, 2, 1, 2, 1, 90, 1].into_iter().enumerate() {
        let unit = if i == 8 { "F" } else { "C" };
        let value = format!(
            r#"{{"id":7,"t":{t},"unit":"{unit}","time":"1970-01-01T00:00:0{i}Z","x":[1]}}"#
        );
        rig.send(0, &[(99, None, Some(&value))]);
    }
    rig.run();
    assert!(rig.at("p.dlq").next().is_none(), "{:?}", rig.outs);
    assert_eq!(rig.at("celsius").count(), 8);
    let odd: Vec<_> = rig.at("odd").collect();
    assert_eq!((odd.len(), odd[0].timestamp), (1, 7_000));
    assert_eq!(
        (odd[0].key.as_deref(), odd[0].key_changed),
        (Some("7"), true)
    );
    assert_eq!(rig.task.watermark(), 8_000 - 5);
}

#[test]
fn a_spec_survives_being_written_and_read() {
    let text = r#"{"name":"p","source":"in","stages":[
        {"type":"filter","field":"a","op":"exists"},
        {"type":"window","field":"a","size_ms":1,"sink":"w"}]}"#;
    let spec: PipelineSpec = serde_json::from_str(text).unwrap();
    let again: PipelineSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(spec, again);
    spec.build().unwrap();
}

#[test]
fn mistakes_are_named() {
    let with = |stage: serde_json::Value| {
        parse(json!({"name": "p", "source": "in", "stages": [stage], "sink": "out"})).unwrap_err()
    };
    for (want, got) in [
        ("unknown variant `fliter`", with(json!({"type": "fliter"}))),
        ("missing field `type`", with(json!({"field": "a"}))),
        (
            "unknown field `feild`",
            with(json!({"type": "key_by", "field": "a", "feild": "b"})),
        ),
        (
            "missing field `size_ms`",
            with(json!({"type": "window", "field": "a"})),
        ),
        (
            "stage 1 (window): window size_ms is 0",
            with(json!({"type": "window", "field": "a", "size_ms": 0})),
        ),
        (
            "stage 1 (filter): filter on field 'a' compares with nothing",
            with(json!({"type": "filter", "field": "a", "op": "lt"})),
        ),
        (
            "stage 1 (map): map does nothing",
            with(json!({"type": "map"})),
        ),
        (
            "stage 1 (zscore): zscore min_samples is 9",
            with(
                json!({"type": "zscore", "field": "a", "samples": 5, "min_samples": 9,
                "threshold": 1}),
            ),
        ),
        (
            "stage name '/'",
            with(json!({"type": "key_by", "field": "a", "name": "/"})),
        ),
        (
            "topic name '/'",
            with(json!({"type": "key_by", "field": "a", "sink": "/"})),
        ),
        (
            "a topic name or a list",
            parse(json!({"name": "p", "source": 1})).unwrap_err(),
        ),
        (
            "unknown field `sinks`",
            parse(json!({"name": "p", "source": "a", "sinks": []})).unwrap_err(),
        ),
        (
            "has no source",
            parse(json!({"name": "p", "source": []})).unwrap_err(),
        ),
        (
            "does nothing",
            parse(json!({"name": "p", "source": "a"})).unwrap_err(),
        ),
        (
            "writes nowhere",
            parse(json!({"name": "p", "source": "a",
                "stages": [{"type": "key_by", "field": "a"}]}))
            .unwrap_err(),
        ),
        (
            "idle_ms is -5",
            parse(json!({"name": "p", "source": "a", "sink": "b", "idle_ms": -5})).unwrap_err(),
        ),
    ] {
        assert!(got.contains(want), "{want}: {got}");
    }
}

#[test]
fn event_time_is_text_or_integer() {
    let ms = |json: &str| event_time_ms(Some(json.as_bytes()), "t");
    assert_eq!(ms(r#"{"t":"2015-12-10T06:55:46Z"}"#), Ok(1_449_730_546_000));
    assert_eq!(ms(r#"{"t":-7}"#), Ok(-7));
    for bad in [
        r#"{"t":"yesterday"}"#,
        r#"{"t":1.5}"#,
        r#"{"t":18446744073709551615}"#,
        "{}",
        r#"{"t":null}"#,
    ] {
        assert!(
            ms(bad).unwrap_err().reason().contains("is no time"),
            "{bad}"
        );
    }
    assert!(ms("x").unwrap_err().reason().contains("not a valid JSON"));
}
