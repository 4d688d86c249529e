//! Rows as bytes.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::array::{Int64Array, StringArray};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::ipc::reader::StreamReader;
use flowstone_query::{Encoder, Format, Rows};
use flowstone_wire::native::QueryStatistics;
use std::sync::Arc;

fn batch() -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]);
    let numbers = Int64Array::from(vec![Some(1), None]);
    let texts = StringArray::from(vec!["a\n", "\"b\""]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers), Arc::new(texts)]).unwrap()
}

fn written(format: Format, rows: &[Rows]) -> Vec<u8> {
    let mut encoder = Encoder::new(format, &batch().schema()).unwrap();
    let mut out = Vec::new();
    for rows in rows {
        out.extend(encoder.rows(rows).unwrap().concat());
    }
    out.extend(encoder.end(&QueryStatistics::default()).unwrap());
    out
}

fn text(format: Format, rows: &[Rows]) -> String {
    String::from_utf8(written(format, rows)).unwrap()
}

const LINES: &str = "{\"n\":1,\"text\":\"a\\n\"}\n{\"n\":null,\"text\":\"\\\"b\\\"\"}\n";

#[test]
fn every_format_has_every_row() {
    let rows = [Rows::Batch(batch())];
    assert_eq!(text(Format::Lines, &rows), LINES);
    let twice = [Rows::Batch(batch()), Rows::Batch(batch())];
    let array: Vec<serde_json::Value> = serde_json::from_str(&text(Format::Array, &twice)).unwrap();
    assert_eq!(array.len(), 4);
    let events = text(Format::Events, &rows);
    assert!(events.starts_with("data: {\"n\":1,"), "{events}");
    assert!(events.contains("\n\nevent: end\ndata: {"), "{events}");
    let arrow = written(Format::Arrow, &twice);
    let read: Result<Vec<_>, _> = StreamReader::try_new(&arrow[..], None).unwrap().collect();
    assert_eq!(read.unwrap(), [batch(), batch()]);
}

#[test]
fn an_answer_without_rows_is_whole() {
    assert_eq!(text(Format::Array, &[]), "[]\n");
    assert_eq!(text(Format::Lines, &[]), "");
    let arrow = written(Format::Arrow, &[]);
    assert_eq!(StreamReader::try_new(&arrow[..], None).unwrap().count(), 0);
}

#[test]
fn lines_are_passed_on_in_pieces_that_are_not_large() {
    let line = format!("{{\"n\":\"{}\"}}\n", "x".repeat(1000));
    let rows = Rows::Lines {
        bytes: line.repeat(1000).into_bytes(),
        count: 1000,
    };
    let mut encoder = Encoder::new(Format::Lines, &batch().schema()).unwrap();
    let pieces = encoder.rows(&rows).unwrap();
    assert!(
        pieces.iter().all(|p| p.len() < 256 << 10),
        "{}",
        pieces.len()
    );
    assert_eq!(pieces.concat(), line.repeat(1000).into_bytes());
}
