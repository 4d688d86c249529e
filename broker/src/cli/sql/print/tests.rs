//! Answers as they are printed.

use super::*;

fn printed(output: Output, kind: QueryKind, columns: &[&str], lines: &[&str]) -> String {
    let columns: Vec<QueryColumn> = columns
        .iter()
        .map(|name| QueryColumn {
            name: (*name).into(),
            data_type: "Utf8".into(),
        })
        .collect();
    let mut printer = Printer::new(output, kind, &columns);
    let mut out = Vec::new();
    for line in lines {
        printer.row(line.as_bytes(), &mut out).unwrap();
    }
    printer.flush(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const LINES: [&str; 2] = [
    r#"{"a":"x","long_name":1.5}"#,
    r#"{"a":"wide\u001b[31m, \"q\"","long_name":null}"#,
];

#[test]
fn columns_stand_below_their_names_and_nothing_moves_the_cursor() {
    let text = printed(Output::Table, QueryKind::Rows, &["a", "long_name"], &LINES);
    assert_eq!(
        text,
        "a                    long_name\nx                    1.5\nwide\\u{1b}[31m, \"q\"\n"
    );
}

#[test]
fn separated_values_are_quoted_where_they_must_be() {
    let text = printed(Output::Csv, QueryKind::Rows, &["a", "long_name"], &LINES);
    assert_eq!(text, "a,long_name\nx,1.5\n\"wide\u{1b}[31m, \"\"q\"\"\",\n");
    let empty = printed(Output::Csv, QueryKind::Rows, &["a"], &[]);
    assert_eq!(empty, "a\n");
}

#[test]
fn json_is_passed_on_and_statements_are_printed_as_they_are() {
    let text = printed(Output::Json, QueryKind::Rows, &["a"], &LINES[..1]);
    assert_eq!(text, format!("{}\n", LINES[0]));
    let line = r#"{"statement":"-- one\nCREATE STREAM"}"#;
    let text = printed(Output::Table, QueryKind::Statement, &["statement"], &[line]);
    assert_eq!(text, "-- one\nCREATE STREAM\n");
}

#[test]
fn what_is_no_longer_part_of_the_result_is_said() {
    let lines = [r#"{"a":"x"}"#, r#"{"@removed":"x"}"#];
    let text = printed(Output::Table, QueryKind::Changes, &["a"], &lines);
    assert_eq!(text, "a\nx\nremoved: x\n");
}
