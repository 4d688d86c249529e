//! What is inferred of records: every statement is accepted, and says what was ambiguous.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use flowstone_sql::infer::Samples;
use flowstone_sql::plan_file;
use flowstone_sql::stream::{Format, Stream};
use proptest::prelude::*;

fn inferred(topic: &str, values: &[&str]) -> String {
    let mut samples = Samples::default();
    let values = values.iter();
    values.for_each(|v| samples.add(0, Some(v.as_bytes())));
    samples.statement(topic)
}

/// The stream of a statement, which must be accepted.
fn stream(text: &str, name: &str) -> Stream {
    let (streams, _) = plan_file(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    streams
        .get(name)
        .unwrap_or_else(|| panic!("{text}"))
        .clone()
}

fn types(stream: &Stream) -> Vec<(&str, DataType)> {
    let columns = stream.columns.iter();
    columns
        .map(|c| (&c.name[..], c.data_type.clone()))
        .collect()
}

#[test]
fn members_become_columns_in_the_order_in_which_they_come() {
    let text = inferred(
        "my-topic",
        &[
            r#"{"ts": "2015-12-10T06:55:46Z", "n": 1, "x": 1, "Odd \"name\"": true}"#,
            r#"{"ts": null, "n": 2, "x": 1.5, "day": "2015-12-10", "user": "root"}"#,
        ],
    );
    let stream = stream(&text, "my-topic");
    assert_eq!(
        (stream.topic.as_str(), &stream.format),
        ("my-topic", &Format::Json)
    );
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    assert_eq!(
        types(&stream),
        [
            ("ts", time),
            ("n", DataType::Int64),
            ("x", DataType::Float64),
            ("Odd \"name\"", DataType::Boolean),
            ("day", DataType::Date32),
            ("user", DataType::Utf8),
        ]
    );
    assert!(text.starts_with("-- The last 2 records"), "{text}");
}

#[test]
fn what_is_ambiguous_is_said() {
    let text = inferred(
        "t",
        &[
            r#"{"a": 1, "b": null, "c": {"x": 1}, "d": 1700000000000}"#,
            r#"{"a": "one", "d": 1700000000001}"#,
            r#"{"a": 2}"#,
            "no object",
        ],
    );
    for note in [
        "1 are no JSON objects",
        "'a': 2 numbers, 1 texts; 1 do not fit BIGINT",
        "'b': null in all of them",
        "'c' holds objects, or lists of them",
        "'d': whole numbers that may be times",
    ] {
        assert!(text.contains(note), "{note}\n{text}");
    }
    assert_eq!(
        types(&stream(&text, "t")),
        [
            ("a", DataType::Int64),
            ("b", DataType::Utf8),
            ("d", DataType::Int64)
        ]
    );
}

#[test]
fn lists_have_the_type_of_their_elements() {
    let values = [
        r#"{"a": [1, 2], "b": ["x"], "c": [], "d": [1, 0.5], "e": [[1]], "f": [{"x": 1}]}"#,
        r#"{"a": [null], "b": null, "c": [], "d": [], "e": [], "f": 1}"#,
    ];
    let text = inferred("t", &values);
    let list = |data_type| DataType::new_list(data_type, true);
    let found = stream(&text, "t");
    let found = types(&found);
    let types: Vec<(&str, String)> = found.iter().map(|(n, t)| (*n, t.to_string())).collect();
    let expected = [
        ("a", list(DataType::Int64)),
        ("b", list(DataType::Utf8)),
        ("c", list(DataType::Utf8)),
        ("d", list(DataType::Float64)),
    ];
    let expected = expected.map(|(n, t)| (n, t.to_string()));
    assert_eq!(types[..4], expected, "{text}");
    assert!(
        text.contains("'e' holds objects, or lists of them"),
        "{text}"
    );
}

/// The watermark takes off as much as records of one partition were behind others.
#[test]
fn the_first_column_with_a_time_in_each_record_is_the_event_time() {
    let mut samples = Samples::default();
    let mut add = |partition: u32, second: u32| {
        let seen = if second == 3 {
            "null"
        } else {
            "\"2015-12-10T00:00:00Z\""
        };
        let value = format!(
            r#"{{"seen": {seen}, "ts": "2015-12-10T06:55:{second:02}Z", "n": "2015-12-10T06:55:00Z"}}"#
        );
        samples.add(partition, Some(value.as_bytes()));
    };
    for second in [3, 9, 6, 10] {
        add(0, second);
    }
    // Another partition is behind by more, which is no disorder.
    add(1, 1);
    let text = samples.statement("t");
    let found = stream(&text, "t");
    assert!(found.watermark.is_some());
    assert!(
        text.contains("WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)"),
        "{text}"
    );
    assert!(text.contains("up to 3 s behind earlier ones"), "{text}");
    let none = inferred("t", &[r#"{"ts": "2015-12-10T06:55:46Z"}"#, "{}"]);
    assert!(!none.contains("WATERMARK"), "{none}");
    let text = inferred("t", &["a;2015-12-10T06:55:46Z", "b;2015-12-10T06:55:47Z"]);
    assert!(text.contains("WATERMARK FOR c2 AS c2)"), "{text}");
}

#[test]
fn lines_of_fields_get_numbered_columns() {
    let text = inferred("stocks", &["MSFT;39.81;Jan 1 2000", "\"A;B\";1;Feb 1 2000"]);
    let stream = stream(&text, "stocks");
    assert_eq!(stream.format, Format::Csv { delimiter: b';' });
    assert_eq!(
        types(&stream),
        [
            ("c1", DataType::Utf8),
            ("c2", DataType::Float64),
            ("c3", DataType::Utf8)
        ]
    );
}

#[test]
fn everything_else_is_raw() {
    let text = inferred("t", &["one", "two words"]);
    assert_eq!(types(&stream(&text, "t")), [("value", DataType::Utf8)]);
    let mut samples = Samples::default();
    samples.add(0, Some(&[0xff, 0]));
    let text = samples.statement("t");
    assert_eq!(types(&stream(&text, "t")), [("value", DataType::Binary)]);
    stream(&Samples::default().statement("t"), "t");
}

proptest! {
    /// Whatever the names and values are: the statement is accepted and has the columns.
    #[test]
    fn any_object_gives_a_statement_that_is_accepted(
        object in prop::collection::btree_map(
            ".{0,12}",
            prop_oneof![
                Just(serde_json::Value::Null),
                any::<i64>().prop_map(Into::into),
                any::<bool>().prop_map(Into::into),
                ".{0,8}".prop_map(Into::into),
                Just(serde_json::json!([1])),
                Just(serde_json::json!({"a": 1})),
            ],
            0..8,
        )
    ) {
        let value = serde_json::to_string(&object).unwrap();
        let text = inferred("t", &[&value]);
        let stream = stream(&text, "t");
        let plain = object.iter().filter(|(n, v)| !n.is_empty() && !v.is_object());
        let names: Vec<&str> = plain.map(|(n, _)| &n[..]).collect();
        if !names.is_empty() {
            let mut found: Vec<&str> = stream.columns.iter().map(|c| &c.name[..]).collect();
            found.sort_unstable();
            prop_assert_eq!(found, names);
        }
    }
}
