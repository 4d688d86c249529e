//! Queries that cannot be expressed: each is refused, at a place and with a reason.

use super::query;
use flowstone_sql::{Statement, Streams, statement};

/// Line and column in the file of the query, and what is said.
fn refusal(name: &str) -> (u64, u64, String) {
    let mut streams = Streams::default();
    for parsed in statement::parse(&query("streams")).unwrap() {
        if let Statement::CreateStream(stream) = parsed.statement {
            streams.add(&stream).unwrap();
        }
    }
    let refused = statement::parse(&query(name)).and_then(|mut parsed| {
        let Statement::CreatePipeline(pipeline) = parsed.remove(0).statement else {
            panic!("{name} is no pipeline");
        };
        streams.plan(&pipeline)
    });
    match refused {
        Ok(_) => panic!("{name} is planned now: give it a test of its results"),
        Err(error) => (error.line, error.column, error.message),
    }
}

#[track_caller]
fn is_refused(name: &str, place: (u64, u64), why: &str) {
    let (line, column, message) = refusal(name);
    assert!(message.contains(why), "{name}: {message}");
    assert_eq!((line, column), place, "{name}: {message}");
}

#[test]
fn joins_without_bounds_of_time() {
    is_refused("q3", (2, 3), "a join needs bounds of time");
    is_refused("q20", (2, 3), "a join needs bounds of time");
}

#[test]
fn other_functions_over_rows() {
    is_refused("q6", (2, 3), "OVER is supported");
}

#[test]
fn windows_of_processing_time() {
    is_refused(
        "q12",
        (2, 3),
        "now() depends on when or where it is computed",
    );
}

#[test]
fn lookups() {
    is_refused("q13", (3, 37), "SYSTEM_TIME");
}
